"""Owns what steps and preemption cost on this engine, learned from what it runs. Reads no clock; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.cost_fit import CostFit
from scheduling.batch_plan import MIN_PREFILL_TOKENS, Slice
from scheduling.cost_model import EngineCosts, context_sum

#: The share of the newest copy in the average. The first replaces the default.
_WEIGHT = 0.2
#: A step's prefill takes at least this share of it, whatever its decodes took elsewhere.
_LEAST_SHARE = 0.1
#: A token costs something even where a fit has found nothing.
_LEAST_TOKEN_S = 1e-9


class MeasuredCosts:
    """Fits what steps took: of decodes, by their number; of prefill, by its tokens and the context that they see."""

    def __init__(self, block_bytes: int) -> None:
        self._costs = EngineCosts(block_bytes=block_bytes)
        self._decodes, self._prefill = CostFit(), CostFit()
        self._copied_byte_s: float | None = None

    @property
    def latest(self) -> EngineCosts:
        return self._costs

    def observe_step(self, prefill: Sequence[Slice], num_decodes: int, took_s: float) -> None:
        """A step has taken so long. What steps of decodes alone take is not counted against the prefill."""
        if took_s <= 0:
            return
        num_tokens = sum(part.num_tokens for part in prefill)
        if num_tokens == 0:
            self._decodes.observe(1, num_decodes, took_s)
            self._costs = replace(self._costs, decode_step_s=self._decodes.first_s, decode_seq_s=self._decodes.second_s)
        elif num_tokens >= MIN_PREFILL_TOKENS:
            of_prefill_s = max(took_s - self._costs.decodes_s(num_decodes), _LEAST_SHARE * took_s)
            self._prefill.observe(
                num_tokens, sum(context_sum(part.num_tokens, part.start) for part in prefill), of_prefill_s
            )
            token_s = max(self._prefill.first_s, _LEAST_TOKEN_S)
            self._costs = replace(self._costs, prefill_token_s=token_s, context_token_s=self._prefill.second_s)

    def observe_copies(self, num_blocks: int, took_s: float) -> None:
        """So many blocks have been copied, one way, in so long."""
        num_bytes = num_blocks * self._costs.block_bytes
        if took_s > 0 and num_bytes:
            newest, average = took_s / num_bytes, self._copied_byte_s
            self._copied_byte_s = newest if average is None else average + _WEIGHT * (newest - average)
            self._costs = replace(self._costs, copy_bytes_per_s=1 / self._copied_byte_s)
