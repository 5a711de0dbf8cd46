"""Owns the largest of the numbers that were seen lately. Knows nothing of what they count, and no clock."""

from __future__ import annotations

from collections import deque


class PeakWindow:
    """Whole numbers by the time they were seen at, which never runs back.

    What a later number of at least the same size hides is forgotten, so there are never more than values that differ.
    """

    def __init__(self) -> None:
        self._falling: deque[tuple[float, int]] = deque()  # the latest last; each lower than the one before

    def __bool__(self) -> bool:
        return bool(self._falling)

    def see(self, number: int, now_s: float) -> None:
        while self._falling and self._falling[-1][1] <= number:
            self._falling.pop()
        self._falling.append((now_s, number))

    def peak_since(self, since_s: float) -> int:
        """The largest number seen at or after `since_s`; the latest of all where nothing was."""
        return next((number for seen_s, number in self._falling if seen_s >= since_s), self._falling[-1][1])

    def forget_before(self, before_s: float) -> None:
        """What was seen before is asked for no more; the latest stays."""
        while len(self._falling) > 1 and self._falling[0][0] < before_s:
            self._falling.popleft()
