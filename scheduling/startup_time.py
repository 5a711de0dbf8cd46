"""Owns how long replicas take to start, by the last few. Knows no clock: the times come in."""

from __future__ import annotations

from collections.abc import Mapping

STARTUP_KEPT = 0.8  # of the longest start before, at each start


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
