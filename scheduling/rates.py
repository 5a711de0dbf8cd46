"""Owns rates and times that follow what was seen lately. Knows nothing of queues, and no clock: time comes in."""

from __future__ import annotations

import math
from collections.abc import Mapping

SERVICE_MEMORY_S = 60.0  # of time in which replicas had all that they can take
MIN_RELEASES = 3.0  # fewer say nothing about a rate
STARTUP_KEPT = 0.8  # of the longest start before, at each start


class FadedRate:
    """Amount per second; both fade exponentially, so that it follows the last `memory_s` seconds.

    after_nothing: before the first interval there was none of it for long, so that the first does not stand for all.
    """

    def __init__(self, memory_s: float, *, after_nothing: bool = False) -> None:
        self._memory_s = memory_s
        self._seconds = memory_s if after_nothing else 0.0
        self.amount = 0.0

    def observe(self, elapsed_s: float, amount: float) -> None:
        """Adds an interval, over which the amount came evenly."""
        kept = math.exp(-elapsed_s / self._memory_s)
        seconds = self._memory_s * (1.0 - kept)  # what is left of the interval's own
        self.amount = self.amount * kept + amount * seconds / elapsed_s
        self._seconds = self._seconds * kept + seconds

    @property
    def per_s(self) -> float:
        return self.amount / self._seconds if self._seconds > 0 else 0.0


class ServiceRate:
    """Tokens/s that one replica serves while it has all that it can take.

    Counted in the tokens that were expected of those requests, like the backlog that it is held against: where answers
    turn out shorter or longer, both are off by as much.
    """

    def __init__(self) -> None:
        self._tokens = FadedRate(SERVICE_MEMORY_S)
        self._requests = FadedRate(SERVICE_MEMORY_S)

    def observe(self, full_s: float, tokens_per_replica: float, num_requests: int) -> None:
        """The replicas were full for so long, and so much of what they held ended."""
        self._tokens.observe(full_s, tokens_per_replica)
        self._requests.observe(full_s, num_requests)

    @property
    def per_s(self) -> float | None:
        """None until enough requests have ended."""
        return self._tokens.per_s or None if self._requests.amount >= MIN_RELEASES else None


class StartupTime:
    """The longest start of the last few: each new start lets those before count for less."""

    def __init__(self) -> None:
        self.longest_s: float | None = None
        self._known: frozenset[str] = frozenset()

    def see(self, started_in_s: Mapping[str, float | None]) -> None:
        """started_in_s: of all replicas that are registered now, by id; None for one that does not say."""
        for replica_id in sorted(started_in_s.keys() - self._known):
            if (seconds := started_in_s[replica_id]) is not None:
                self.longest_s = max(seconds, STARTUP_KEPT * (self.longest_s or 0.0))
        self._known = frozenset(started_in_s)
