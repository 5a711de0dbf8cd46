"""Owns what a step costs in seconds, and what taking a sequence's blocks away does. Knows no clock, nor how the figures
were found."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

_ROUNDING = 1e-6  # of a token


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


def context_sum(num_tokens: int, start: int) -> float:
    """Tokens of context that a prompt's tokens see, added up: `num_tokens` of them from position `start` on."""
    return num_tokens * (start + num_tokens / 2)


@dataclass(frozen=True, slots=True)
class EngineCosts:
    """What steps take, and what it costs to give a sequence's KV cache up and to have it back.

    prefill_token_s: seconds that a token of prefill adds to a step. context_token_s: that it adds for each token before
    it. copy_bytes_per_s: between cache and swap area, one way, on one rank. block_bytes: of one block on that rank.
    decode_step_s, decode_seq_s: a step of decodes alone takes the first, and the second for each of them; the first is
    None before there was one. The defaults hold until something has been measured: those of a small model on a CPU.

    Raises:
        ValueError: a figure is not a positive finite number (some may be 0: that part then costs nothing).
    """

    prefill_token_s: float = 1e-3
    copy_bytes_per_s: float = 2e9
    block_bytes: int = 0
    decode_step_s: float | None = None
    decode_seq_s: float = 0.0
    context_token_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prefill_token_s", "copy_bytes_per_s"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"{name}: expected a finite number above 0, got {value!r}")
        for name in ("block_bytes", "decode_seq_s", "context_token_s"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name}: expected a finite number of at least 0, got {value!r}")

    def decodes_s(self, num_decodes: int) -> float:
        """Seconds that so many decodes take in a step.

        A decode takes no less than a token of prefill does, which tells of more decodes than were run alone lately.
        """
        measured_s = (self.decode_step_s or 0.0) + self.decode_seq_s * num_decodes
        return max(measured_s, num_decodes * self.prefill_token_s) if num_decodes else 0.0

    def prefill_s(self, num_tokens: int, start: int = 0) -> float:
        """Seconds that so many tokens of a prompt, from position `start` on, add to a step."""
        return num_tokens * self.prefill_token_s + context_sum(num_tokens, start) * self.context_token_s

    def prefill_within(self, seconds: float, start: int = 0) -> int:
        """The most tokens of a prompt, from position `start` on, that add no more than this to a step."""
        if seconds <= 0:
            return 0
        slope, curve = self.prefill_token_s + start * self.context_token_s, self.context_token_s / 2
        # The root of curve * n^2 + slope * n = seconds, in the form that stands a curve of 0.
        root = 2 * seconds / (slope + math.sqrt(slope * slope + 4 * curve * seconds))
        return int(root + _ROUNDING)

    def recompute_s(self, num_tokens: int) -> float:
        """Seconds to compute so many tokens again, from the first on."""
        return self.prefill_s(num_tokens)

    def swap_s(self, num_blocks: int) -> float:
        """Seconds to copy so many blocks out, and in again."""
        return 2 * num_blocks * self.block_bytes / self.copy_bytes_per_s
