"""Owns virtual time: what is to happen, the earliest first, then the first put in. Reads no clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

#: What is called when its time has come, with what it was put in with.
Event = Callable[[Any], None]


class Calendar:
    """Events by time. One that has come to be pointless stays, and finds nothing to do."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Event, Any]] = []
        self._num_put_in = 0

    def __len__(self) -> int:
        return len(self._events)

    def at(self, at_s: float, event: Event, subject: Any) -> None:
        """Puts it in; what is late already happens now."""
        self._num_put_in += 1
        heapq.heappush(self._events, (max(at_s, self.now_s), self._num_put_in, event, subject))

    def run_next(self) -> None:
        """Lets the time come of whatever is next."""
        self.now_s, _, event, subject = heapq.heappop(self._events)
        event(subject)
