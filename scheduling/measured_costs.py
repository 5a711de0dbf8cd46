"""Owns what steps and preemption cost on this engine, learned from what it runs. Reads no clock; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scheduling.batch_plan import Slice
from scheduling.cost_fit import CostFit, Prior
from scheduling.cost_model import EngineCosts, context_sum

#: The share of the newest copy in the average. The first replaces the default.
_WEIGHT = 0.2
#: A decode is taken to cost what a token of a prompt does, and a token before it no more than a thousandth of that: on
#: short prompts alone the latter cannot be told, and would be found in their noise.
_PRIORS = {2: Prior(mean=1.0, deviation=1.0), 3: Prior(mean=0.0, deviation=1e-3)}
#: A token costs something even where a fit has found nothing.
_LEAST_TOKEN_S = 1e-9


class MeasuredCosts:
    """Fits what steps took, whatever was in them: a part that is always there, one for each decode, one for each token
    of a prompt, and one for each token that such a token sees.

    A busy engine hardly ever has a step of decodes alone, so that all parts are learned from steps that hold them all.
    """

    def __init__(self, block_bytes: int) -> None:
        self._costs = EngineCosts(block_bytes=block_bytes)
        self._is_stale = False  # steps have been observed since
        self._steps = CostFit(4, _PRIORS)
        self._has_decoded = self._has_prefilled = False
        self._copied_byte_s: float | None = None

    @property
    def latest(self) -> EngineCosts:
        if self._is_stale:
            self._costs = self._found()
            self._is_stale = False
        return self._costs

    def observe_step(self, prefill: Sequence[Slice], num_decodes: int, took_s: float) -> None:
        """A step has taken so long."""
        if not prefill:
            self.observe_decodes(num_decodes, took_s)
            return
        num_tokens = sum(part.num_tokens for part in prefill)
        num_seen = sum(context_sum(part.num_tokens, part.start) for part in prefill)
        self._observe((num_tokens, 1, num_decodes, num_seen), took_s)

    def observe_decodes(self, num_decodes: int, took_s: float, num_steps: int = 1) -> None:
        """Steps of decodes alone have taken so long each."""
        self._observe((0, 1, num_decodes, 0), took_s, num_steps)

    def _observe(self, work: tuple[int, int, int, float], took_s: float, num_steps: int = 1) -> None:
        if took_s <= 0:
            return
        self._has_prefilled = self._has_prefilled or work[0] > 0
        self._has_decoded = self._has_decoded or work[2] > 0
        self._steps.observe(work, took_s, num_steps)
        self._is_stale = True

    def _found(self) -> EngineCosts:
        """The costs, with what steps have shown of those parts that they had."""
        token_s, step_s, seq_s, context_token_s = self._steps.prices_s
        costs = self._costs
        if self._has_prefilled:
            token_s = max(token_s, _LEAST_TOKEN_S)
            costs = replace(costs, prefill_token_s=token_s, context_token_s=context_token_s)
        if self._has_decoded:
            costs = replace(costs, decode_step_s=step_s, decode_seq_s=seq_s)
        return costs

    def observe_copies(self, num_blocks: int, took_s: float) -> None:
        """So many blocks have been copied, one way, in so long."""
        num_bytes = num_blocks * self._costs.block_bytes
        if took_s > 0 and num_bytes:
            newest, average = took_s / num_bytes, self._copied_byte_s
            self._copied_byte_s = newest if average is None else average + _WEIGHT * (newest - average)
            self._costs = replace(self.latest, copy_bytes_per_s=1 / self._copied_byte_s)
