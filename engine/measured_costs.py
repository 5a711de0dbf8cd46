"""Owns what preemption costs on this engine, learned from the steps that it runs. Reads no clock; decides nothing."""

from __future__ import annotations

from dataclasses import replace

from scheduling.cost_model import EngineCosts

#: The share of the newest measurement in an average. The first measurement replaces the default.
_WEIGHT = 0.2
#: Steps with less prefill say more about their decodes.
_MIN_PREFILL_TOKENS = 16
#: A step's prefill takes at least this share of it, whatever its decodes took elsewhere.
_LEAST_SHARE = 0.1


class MeasuredCosts:
    """Exponentially weighted averages: seconds that a token of prefill adds to a step, and bytes a second of copies."""

    def __init__(self, block_bytes: int) -> None:
        self._costs = EngineCosts(block_bytes=block_bytes)
        self._prefill_token_s: float | None = None
        self._copied_byte_s: float | None = None
        self._decode_step_s: float | None = None

    @property
    def latest(self) -> EngineCosts:
        return self._costs

    def observe_step(self, num_prefill_tokens: int, num_decodes: int, took_s: float) -> None:
        """A step has taken so long. What steps of decodes alone take is not counted against the prefill."""
        if took_s <= 0:
            return
        if num_prefill_tokens == 0:
            self._decode_step_s = _blended(self._decode_step_s, took_s)
            self._costs = replace(self._costs, decode_step_s=self._decode_step_s)
        elif num_prefill_tokens >= _MIN_PREFILL_TOKENS:
            of_prefill_s = max(took_s - self._costs.decodes_s(num_decodes), _LEAST_SHARE * took_s)
            self._prefill_token_s = _blended(self._prefill_token_s, of_prefill_s / num_prefill_tokens)
            self._costs = replace(self._costs, prefill_token_s=self._prefill_token_s)

    def observe_copies(self, num_blocks: int, took_s: float) -> None:
        """So many blocks have been copied, one way, in so long."""
        num_bytes = num_blocks * self._costs.block_bytes
        if took_s > 0 and num_bytes:
            self._copied_byte_s = _blended(self._copied_byte_s, took_s / num_bytes)
            self._costs = replace(self._costs, copy_bytes_per_s=1 / self._copied_byte_s)


def _blended(average: float | None, newest: float) -> float:
    return newest if average is None else average + _WEIGHT * (newest - average)
