"""Owns a run's course as a bounded number of moments: the longer it lasts, the further apart. Knows no twin."""

from __future__ import annotations

from collections.abc import Callable

from simulation.results import Moment

_MOST = 400


class Moments:
    """The first moment at or after each of evenly spaced times."""

    def __init__(self, apart_s: float = 1.0, most: int = _MOST) -> None:
        self.taken: list[Moment] = []
        self._apart_s = apart_s
        self._most = most
        self._next_s = 0.0

    def look(self, now_s: float, take: Callable[[float], Moment]) -> None:
        """Takes a moment, if it is time for one."""
        if now_s < self._next_s:
            return
        self.taken.append(take(now_s))
        if len(self.taken) >= self._most:
            del self.taken[1::2]
            self._apart_s *= 2
        self._next_s = (now_s // self._apart_s + 1) * self._apart_s
