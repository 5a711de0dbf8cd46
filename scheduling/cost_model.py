"""Owns what a step costs in seconds, as a linear model. Knows nothing of clocks, or of how the figures were found."""

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

    Raises:
        ValueError: a figure is negative, infinite or not a number.
    """

    base_s: float = 0.0
    prefill_token_s: float = 0.0
    decode_seq_s: float = 0.0
    context_token_s: float = 0.0

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
