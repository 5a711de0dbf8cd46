"""An engine without a model: deterministic tokens at a stated cost. Knows nothing of weights or devices.

It is shipped: whoever builds on the service tests with it. A token is a hash of the sequence's seed and the token's
position, so an answer is the same whatever the batch, the preemptions and the moves on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.config import EngineConfig
from engine.counter_hash import uniform
from engine.memory import longest_sequence, num_swap_slots, wanted_blocks
from engine.protocol import Chunk, EngineCapacity, Sampled, TokenLogprob
from scheduling.cost_model import StepCostModel, StepWork
from scheduling.swap_area import BlockCopies

FAKE_VOCAB_SIZE = 49_152
FAKE_MAX_MODEL_LEN = 8_192
FAKE_BLOCK_BYTES = 1 << 18
_FAKE_HOST_BYTES = 1 << 40
# Ordinary words in byte-level vocabularies: past the control tokens and single bytes.
_FIRST_WORD, _NUM_WORDS = 1_000, 16_000
_FAKE_LOGPROB = -0.5


class FakeEngine:
    """Implements `InferenceEngine`. `sleep` is called once a step, and for copies, with the cost in seconds.

    It honours the seed, `logprobs`, `prompt_logprobs` and grammars; every other sampling setting changes nothing.
    Without `cost`, every step costs `config.fake_step_s`.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        sleep: Callable[[float], None] = time.sleep,
        cost: StepCostModel | None = None,
        eos_token_ids: tuple[int, ...] = (),
    ) -> None:
        self._config = config
        self._sleep = sleep
        self._cost = cost or StepCostModel(base_s=config.fake_step_s)
        self._eos_token_ids = eos_token_ids

    def capacity(self) -> EngineCapacity:
        config = self._config
        max_model_len = config.max_model_len or FAKE_MAX_MODEL_LEN
        num_blocks = wanted_blocks(config, max_model_len)
        return EngineCapacity(
            model_name=config.model_name,
            max_num_seqs=config.max_num_seqs,
            max_model_len=longest_sequence(config, max_model_len, num_blocks),
            max_num_batched_tokens=config.max_num_batched_tokens,
            block_size=config.block_size,
            num_blocks=num_blocks,
            vocab_size=FAKE_VOCAB_SIZE,
            model_bytes=[0] * config.tensor_parallel_size,
            eos_token_ids=list(self._eos_token_ids),
            num_swap_slots=num_swap_slots(config, max_model_len, FAKE_BLOCK_BYTES, _FAKE_HOST_BYTES),
            block_bytes=FAKE_BLOCK_BYTES,
        )

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        self._sleep(self._cost.cost_s(step_work(chunks)))
        return [self._sampled(chunk) for chunk in chunks if chunk.samples or chunk.sampling.prompt_logprobs is not None]

    def copy_blocks(self, copies: BlockCopies) -> None:
        self._sleep(self._cost.copied_block_s * len(copies))

    def close(self) -> None:
        """There is nothing to give back."""

    def _sampled(self, chunk: Chunk) -> Sampled:
        if not chunk.samples:
            return Sampled(chunk.seq_id, None, prompt_logprobs=_prompt_logprobs(chunk))
        token_id = _token_of(chunk)
        if token_id is None:
            return Sampled(chunk.seq_id, None, error="the grammar allows no token")
        num_top = chunk.sampling.logprobs
        logprob = None if num_top is None else _logprob(token_id, num_top)
        return Sampled(chunk.seq_id, token_id, logprob, _prompt_logprobs(chunk))


def fake_token(seed: int, position: int) -> int:
    """The token that a sequence with this seed has at this position."""
    return _FIRST_WORD + int(uniform(seed, position) * _NUM_WORDS)


def _token_of(chunk: Chunk) -> int | None:
    """Where a grammar is to be followed, any of the tokens that it allows."""
    if chunk.guide is None:
        return fake_token(chunk.sampling.seed, len(chunk.history))
    allowed = chunk.guide.allowed(FAKE_VOCAB_SIZE).nonzero()[0]
    share = uniform(chunk.sampling.seed, len(chunk.history))
    return int(allowed[int(share * len(allowed))]) if len(allowed) else None


def step_work(chunks: list[Chunk]) -> StepWork:
    """What a step over these chunks computes; a chunk of one token counts as a decode."""
    return StepWork(
        num_prefill_tokens=sum(len(chunk.token_ids) for chunk in chunks if len(chunk.token_ids) > 1),
        num_decode_seqs=sum(len(chunk.token_ids) == 1 for chunk in chunks),
        num_context_tokens=sum(chunk.start for chunk in chunks),
    )


def _logprob(token_id: int, num_top: int) -> TokenLogprob:
    alternatives = [(token_id + rank, _FAKE_LOGPROB - rank) for rank in range(num_top)]
    return TokenLogprob(token_id, _FAKE_LOGPROB, top=alternatives)


def _prompt_logprobs(chunk: Chunk) -> list[TokenLogprob] | None:
    """One for each prompt token that follows a token of this chunk."""
    if chunk.sampling.prompt_logprobs is None:
        return None
    following = chunk.history[chunk.start + 1 : min(chunk.start + len(chunk.token_ids) + 1, chunk.num_prompt_tokens)]
    return [_logprob(token_id, chunk.sampling.prompt_logprobs) for token_id in following]
