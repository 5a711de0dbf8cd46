"""Owns what a timed step did and how long it took. Knows neither how it was run nor what is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.cost_model import context_sum


@dataclass(frozen=True, slots=True)
class StepShape:
    """So many decodes over a context, and so many tokens of a prompt after those that are in the cache."""

    num_decodes: int = 0
    context: int = 0
    num_prefill_tokens: int = 0
    prefill_start: int = 0

    @property
    def num_context_tokens(self) -> int:
        """Tokens in the cache that the decodes attend to."""
        return self.num_decodes * self.context

    @property
    def prefill_context(self) -> float:
        """Tokens of context that each token of the prompt sees, added up."""
        return context_sum(self.num_prefill_tokens, self.prefill_start)


@dataclass(frozen=True, slots=True)
class StepSample:
    """One timed step."""

    shape: StepShape
    took_s: float
