"""Owns the two seams of the engine: what a replica and rank 0 say to each other, and what a backend must offer.

Knows nothing of Ray or HTTP, and imports no torch: the ingress and the replica read these types too.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scheduling.score import ScorePolicy, Stamp
from scheduling.swap_area import BlockCopies


class FinishReason(enum.StrEnum):
    STOP = "stop"  # an end-of-sequence or stop token
    LENGTH = "length"  # max_tokens or the context was reached
    CANCELLED = "cancelled"
    MOVED = "moved"  # the engine gave the sequence up; the ingress leases it again
    LOST = "lost"  # the engine as a whole failed; the ingress leases it again
    ERROR = "error"
    GRAMMAR = "grammar"  # its grammar asks for more than an engine gives: the client's own doing


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen: a pure function of (seed, position, logits, the tokens so far).

    temperature 0, or next to it, is greedy. top_k 0 and min_p 0 switch those filters off. `logprobs` is the number of
    alternatives reported beside the chosen token (0: the chosen token only); None reports nothing. `prompt_logprobs`
    likewise, for every prompt token but the first. `stop_token_ids` end the answer, beside the model's own ends unless
    `ignore_eos`; none does before `min_tokens`. `grammar`, in llguidance's own form, says which answers there may be.
    """

    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What an engine needs to generate one sequence.

    output_token_ids: what an earlier attempt has already generated; generation goes on after them, at their positions.
    sampling.max_tokens and min_tokens count from the first output token of the first attempt.
    is_suspect: the replica before this one died while it computed this sequence. It is begun beside no other suspect.
    """

    lease_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    stamp: Stamp
    policy: ScorePolicy
    output_token_ids: list[int] = field(default_factory=list)
    cache_salt: str = ""
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """log p of the token, and the best alternatives, best first, as (token id, log p)."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SequenceOutput:
    """What one step gave one sequence. `finish_reason` is set exactly once, on the last message of the sequence.

    num_served_tokens: on that one: prompt and output tokens that this attempt computed for the first time.
    """

    lease_id: str
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] | None = None
    num_cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    error: str | None = None
    num_served_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Gauges and monotonic counters of one engine, sent with every step.

    num_preemptions: by swap and by recompute together. num_recomputed_tokens: tokens whose KV a preemption had lost.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_parked: int = 0
    kv_blocks_used: int = 0
    kv_blocks_total: int = 0
    num_steps: int = 0
    num_preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    num_preemptions_by_swap: int = 0
    num_preemptions_by_recompute: int = 0
    num_recomputed_tokens: int = 0
    num_blocks_swapped_out: int = 0
    num_blocks_swapped_in: int = 0


@dataclass(frozen=True, slots=True)
class StepMessage:
    """Rank 0 to replica: one message a step for the whole batch.

    held: who has given way to a newcomer and waits until a command resumes it. fallen: whose level has changed, under
    policies that have levels. entering: suspects that the step after this message computes first.
    """

    outputs: list[SequenceOutput]
    stats: EngineStats
    held: list[str] = field(default_factory=list)
    fallen: list[tuple[str, int]] = field(default_factory=list)
    entering: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CommandMessage:
    """Replica to rank 0: what has happened since the last one.

    resumed: who was held and may go on, each under its stamp. moved: whom another replica will take over.
    holds_displaced: whether those who give way to newcomers are held, from now on; None leaves it as it is (an engine
    holds nobody at first). resumes_all: whoever is held now goes on first, whether newcomers' victims are held again or
    not.
    """

    added: list[EngineRequest] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    resumed: list[tuple[str, Stamp]] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    holds_displaced: bool | None = None
    resumes_all: bool = False


@dataclass(frozen=True, slots=True)
class EngineCapacity:
    """What an engine offers after loading. `model_bytes` holds each rank's parameter bytes, by rank.

    eos_token_ids: what ends an answer by the checkpoint's own word, unless a request ignores it.
    num_swap_slots: blocks that the swap area holds. block_bytes: of one block, on the rank where it is largest.
    """

    model_name: str
    max_num_seqs: int
    max_model_len: int
    max_num_batched_tokens: int
    block_size: int
    num_blocks: int
    vocab_size: int
    model_bytes: list[int] = field(default_factory=list)
    eos_token_ids: list[int] = field(default_factory=list)
    num_swap_slots: int = 0
    block_bytes: int = 0


class Guide(Protocol):
    """What an answer's grammar says of its next token, once it has been told of all before. See `engine.grammar`."""

    @property
    def failure(self) -> str | None:
        """Why nothing is allowed any more."""
        ...

    @property
    def is_over_limits(self) -> bool:
        """Whether that is for what the grammar asks for, and not for tokens that do not fit it."""
        ...

    def push(self, token_ids: Sequence[int]) -> None: ...

    def allowed(self, num_tokens: int) -> NDArray[np.bool_]: ...


@dataclass(slots=True)
class Chunk:
    """The part of one sequence that one step computes.

    token_ids: the tokens to run, at positions start, start + 1, ...; their KV goes into the blocks of `block_table`.
    samples: whether the logits of the last token choose the next one (false inside a chunked prefill).
    history: prompt and output so far, for penalties; position of the new token = len(history).
    guide: which tokens may come next; None where all may.
    """

    seq_id: str
    token_ids: list[int]
    start: int
    block_table: list[int]
    samples: bool
    sampling: SamplingParams
    history: list[int]
    num_prompt_tokens: int
    guide: Guide | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a step chose for one sequence, or why it could not (`error`, e.g. NaN in the logits)."""

    seq_id: str
    token_id: int | None
    logprob: TokenLogprob | None = None
    prompt_logprobs: list[TokenLogprob] | None = None
    error: str | None = None


class InferenceEngine(Protocol):
    """What runs a step. Implemented by `backends/deepspeed.py` (the real one) and `backends/fake.py`.

    `execute` computes every chunk and returns one `Sampled` for each chunk whose `samples` is true, in order
    (plus one with token_id None for a non-sampling chunk that reports prompt_logprobs). It raises only when the
    engine as a whole is broken. `copy_blocks` moves blocks to the swap area and back on every rank, and returns when
    that is done; whatever needs it comes with the next `execute`.
    """

    def capacity(self) -> EngineCapacity: ...

    def execute(self, chunks: list[Chunk]) -> list[Sampled]: ...

    def copy_blocks(self, copies: BlockCopies) -> None: ...

    def close(self) -> None: ...
