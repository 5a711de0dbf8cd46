"""Owns what a step costs in seconds, and what taking a sequence's blocks away does. Knows no clock, nor how the figures
were found."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class StepWork:
    """What one step computes.

    num_context_tokens: tokens already in the KV cache that the step's sequences attend to.
    """

    num_prefill_tokens: int = 0
    num_decode_seqs: int = 0
    num_context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StepCostModel:
    """Seconds a step takes: a fixed part, and a part for each prefill token, decode and token of context.

    copied_block_s: what a block adds that is copied to the swap area or back before the step.

    Raises:
        ValueError: a figure is negative, infinite or not a number.
    """

    base_s: float = 0.0
    prefill_token_s: float = 0.0
    decode_seq_s: float = 0.0
    context_token_s: float = 0.0
    copied_block_s: float = 0.0

    def __post_init__(self) -> None:
        for figure in fields(self):
            value = getattr(self, figure.name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{figure.name}: expected a finite number of at least 0, got {value!r}")

    def cost_s(self, work: StepWork) -> float:
        """How long a step with this work takes."""
        return (
            self.base_s
            + self.prefill_token_s * work.num_prefill_tokens
            + self.decode_seq_s * work.num_decode_seqs
            + self.context_token_s * work.num_context_tokens
        )


@dataclass(frozen=True, slots=True)
class EngineCosts:
    """What steps take, and what it costs to give a sequence's KV cache up and to have it back.

    prefill_token_s: seconds that a token of prefill adds to a step. copy_bytes_per_s: between cache and swap area, one
    way, on one rank. block_bytes: of one block on that rank. The defaults hold until something has been measured: those
    of a small model on a CPU. decode_step_s: of a step of decodes alone, lately; None before there was one.

    Raises:
        ValueError: a figure is not a positive finite number (`block_bytes` may be 0: copies then cost nothing).
    """

    prefill_token_s: float = 1e-3
    copy_bytes_per_s: float = 2e9
    block_bytes: int = 0
    decode_step_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("prefill_token_s", "copy_bytes_per_s"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"{name}: expected a finite number above 0, got {value!r}")
        if self.block_bytes < 0:
            raise ValueError(f"block_bytes: expected at least 0, got {self.block_bytes}")

    def prefill_within(self, num_decodes: int, stretch: float) -> int | None:
        """Tokens of prefill that make a step at most `stretch` times as long as its decodes alone would be; None where
        nothing has been measured."""
        if self.decode_step_s is None:
            return None
        return int((stretch - 1) * self.decodes_s(num_decodes) / self.prefill_token_s)

    def decodes_s(self, num_decodes: int) -> float:
        """Seconds that so many decodes take in a step.

        A decode takes no less than a token of prefill does, which tells of more decodes than were run alone lately.
        """
        return max(self.decode_step_s or 0.0, num_decodes * self.prefill_token_s) if num_decodes else 0.0

    def recompute_s(self, num_tokens: int) -> float:
        """Seconds to compute so many tokens again."""
        return num_tokens * self.prefill_token_s

    def swap_s(self, num_blocks: int) -> float:
        """Seconds to copy so many blocks out, and in again."""
        return 2 * num_blocks * self.block_bytes / self.copy_bytes_per_s
