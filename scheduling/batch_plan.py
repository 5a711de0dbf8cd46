"""Owns the form of one step's plan, and of the limits that it keeps. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from scheduling.sequence import Sequence
from scheduling.swap_area import BlockCopies

#: How a sequence's blocks are taken away: copied out, or computed again later; auto takes the cheaper; off: never.
Preemption = Literal["auto", "swap", "recompute", "off"]


#: What a prompt gets in a step however long it makes it.
MIN_PREFILL_TOKENS = 8


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one step may hold.

    max_num_batched_tokens: the token budget of a step. parked_limit: how many sequences newcomers may park.
    preemption_margin_levels: by how many levels of priority a newcomer must outrank whoever gives way to it.
    max_num_prompt_logits: tokens of a step whose logits are wanted beside those that choose the next token. A token's
    logits are as long as the vocabulary, so that without a bound one long prompt could take a device's free memory.
    max_decode_stretch: how many times as long as its decodes alone a step may take for the sake of one prompt; what it
    may take longer grows with the root of the number of prompts. None: as long as the token budget makes it. A prompt
    gets `MIN_PREFILL_TOKENS` all the same, so that it gets on.

    Raises:
        ValueError: a limit is out of range.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    parked_limit: int = 8
    preemption_margin_levels: float = 5.0
    max_num_prompt_logits: int = 256
    preemption: Preemption = "auto"
    max_decode_stretch: float | None = None

    def __post_init__(self) -> None:
        positive = ("max_num_seqs", "max_num_batched_tokens", "max_num_prompt_logits")
        for name, least in (*((name, 1) for name in positive), ("parked_limit", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.preemption_margin_levels >= 0:
            raise ValueError(f"preemption_margin_levels: expected at least 0, got {self.preemption_margin_levels}")
        if self.max_decode_stretch is not None and not self.max_decode_stretch >= 1:
            raise ValueError(f"max_decode_stretch: expected at least 1, got {self.max_decode_stretch}")


class Slice(NamedTuple):
    """The tokens of one sequence that a step computes: `num_tokens` of them from position `start`.

    completes: the last of them is the sequence's newest, so that its logits choose the next one. (A tuple: one is made
    for each sequence and step, at a third of what a frozen dataclass costs.)
    """

    sequence: Sequence
    start: int
    num_tokens: int
    completes: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: decodes before prefills, each with the best key first.

    `preempted` gave way before the step, for want of blocks or to a newcomer; `held` are those of them who now wait for
    `Batcher.resume`. `copies` come before all that the step computes.
    """

    decode: list[Slice] = field(default_factory=list)
    prefill: list[Slice] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    held: list[Sequence] = field(default_factory=list)
    copies: BlockCopies = field(default_factory=BlockCopies)

    @property
    def slices(self) -> list[Slice]:
        return self.decode + self.prefill
