"""Owns the places that are kept on replicas for those who are on their way there. Knows no order and no lease."""

from __future__ import annotations

from collections import deque

from scheduling.fleet import Fleet
from scheduling.lazy_heap import LazyHeap
from scheduling.queued import QueuedTicket
from scheduling.replicas import Held
from scheduling.score import Stamp

_Who = tuple[str, float, float]  # tenant, priority, arrival: what an attempt and the next have in common


class KeptPlaces:
    """From when one that is parked is told to move until it asks for a place again, under another lease id.

    patience_s: a place is kept for no longer; its client may be gone.
    """

    def __init__(self, fleet: Fleet, patience_s: float) -> None:
        self._fleet = fleet
        self._patience_s = patience_s
        self._kept: dict[str, tuple[str, _Who]] = {}  # replica and for whom, by the id that the place is booked under
        self._by_who: dict[_Who, deque[str]] = {}
        self._due = LazyHeap()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, queued: QueuedTicket, replica_id: str, now_s: float) -> None:
        """Nobody else is granted this much of the replica."""
        place_id, who = f"{queued.lease_id}>{replica_id}", _who(queued.tenant, queued.stamp)
        self._fleet.hold(replica_id, place_id, Held(queued.ticket.need.expected))
        self._kept[place_id] = (replica_id, who)
        self._by_who.setdefault(who, deque()).append(place_id)
        self._due.push(place_id, (now_s + self._patience_s,))

    def give_back(self, tenant: str, stamp: Stamp) -> None:
        """One that was accepted before asks again: what was kept for it, if anything, is free for whoever is next."""
        if (place_ids := self._by_who.get(_who(tenant, stamp))) is not None:
            self._free(place_ids[0])

    def expire(self, now_s: float) -> None:
        for place_id in self._due.pop_up_to((now_s,)):
            self._free(place_id)

    def next_due_s(self) -> float | None:
        """When the next place is kept no longer."""
        first = self._due.first_position()
        return None if first is None else first[0]

    def _free(self, place_id: str) -> None:
        replica_id, who = self._kept.pop(place_id)
        self._fleet.free(replica_id, place_id)
        self._due.discard(place_id)
        self._by_who[who].remove(place_id)
        if not self._by_who[who]:
            del self._by_who[who]


def _who(tenant: str, stamp: Stamp) -> _Who:
    return (tenant, stamp.priority, stamp.arrival_s)
