"""Owns how much work arrives lately at each priority. Knows nothing of who waits or of how fast it is done."""

from __future__ import annotations

import math

MEMORY_S = 30.0
_MAX_LEVELS = 256


class ArrivalMeter:
    """Expected tokens a second that were let in, by priority, over about the last half minute."""

    def __init__(self) -> None:
        self._tokens: dict[float, float] = {}  # by priority, faded to `_faded_to_s`
        self._faded_to_s: float | None = None

    def observe(self, priority: float, num_tokens: int, now_s: float) -> None:
        self._fade(now_s)
        self._tokens[priority] = self._tokens.get(priority, 0.0) + num_tokens
        if len(self._tokens) > _MAX_LEVELS:
            del self._tokens[min(self._tokens, key=lambda level: self._tokens[level])]

    def above(self, priority: float, now_s: float) -> list[tuple[float, float]]:
        """By how much each priority above this one is, and its tokens a second."""
        self._fade(now_s)
        return [(level - priority, tokens / MEMORY_S) for level, tokens in self._tokens.items() if level > priority]

    def _fade(self, now_s: float) -> None:
        if self._faded_to_s is not None and now_s > self._faded_to_s:
            kept = math.exp(-(now_s - self._faded_to_s) / MEMORY_S)
            self._tokens = {level: tokens * kept for level, tokens in self._tokens.items()}
        self._faded_to_s = now_s if self._faded_to_s is None else max(now_s, self._faded_to_s)
