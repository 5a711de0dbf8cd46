"""Owns the tickets whose leases ended before anybody said what they were served. Settles nothing."""

from __future__ import annotations

from collections import OrderedDict

from scheduling.queued import QueuedTicket

_MAX_REMEMBERED = 4_096


class Unsettled:
    """The latest of them: what a cancelled one was served is told when its engine has dropped it, a step later."""

    def __init__(self, max_remembered: int = _MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._queued: OrderedDict[str, QueuedTicket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._queued)

    def put(self, queued: QueuedTicket) -> None:
        self._queued[queued.lease_id] = queued
        if len(self._queued) > self._max_remembered:
            self._queued.popitem(last=False)

    def take(self, lease_id: str) -> QueuedTicket | None:
        return self._queued.pop(lease_id, None)
