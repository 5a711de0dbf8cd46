"""Owns the time that a queue stamps by: read off the wall once, carried on by a clock that nobody sets."""

from __future__ import annotations

import time
from collections.abc import Callable


class SteadyWallClock:
    """Seconds since the Unix epoch that pass at an even rate.

    A wall clock that is set back would stand still here, for time never runs back in a queue, and with it every
    deadline and every grant that waits to be taken; one that is set forward would end them all at once.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._epoch_s = wall() - steady()  # on the wall, when the steady clock read 0

    def now_s(self) -> float:
        return self._epoch_s + self._steady()
