"""Owns who gets which place next: the head, where there is room or where somebody gives way to it. Knows no clock."""

from __future__ import annotations

from scheduling.events import Event, Expired, Moved, Resumed
from scheduling.fleet import Fleet
from scheduling.hopeless import never_fits
from scheduling.kept_places import KeptPlaces
from scheduling.lease_desk import LeaseDesk
from scheduling.queued import QueuedTicket
from scheduling.waiting_room import WaitingRoom


class Granting:
    """Serves the heads of the waiting room in their order, up to the first that nobody can take.

    A head that fits no replica now reserves room: nothing bypasses it.
    """

    def __init__(self, room: WaitingRoom, fleet: Fleet, leases: LeaseDesk, kept: KeptPlaces) -> None:
        self._room = room
        self._fleet = fleet
        self._leases = leases
        self._kept = kept

    def run(self, now_s: float, events: list[Event]) -> None:
        """Grants for as long as the head can be served; what has to be told beside grants is added to `events`."""
        if self._room.policy.ages and self._fleet.has_free_slot:
            self._room.refresh(now_s)
        while (head := self._room.head()) is not None:
            serve = self._grant if head.parked_on is None else self._unpark
            served = serve(head, now_s, events)
            if not served:
                return

    def could_serve(self, newcomer: QueuedTicket) -> bool:
        """Whether it would not wait at all: it comes before all who do, and there is a place for it."""
        head = self._room.head()
        is_first = head is None or self._room.key_now(newcomer) > self._room.key_now(head)
        return is_first and self._place_for(newcomer) is not None

    def _grant(self, head: QueuedTicket, now_s: float, events: list[Event]) -> bool:
        if (hopeless := never_fits(head, self._fleet)) is not None:
            self._room.take(head.lease_id)
            self._leases.give_up(head.lease_id)
            events.append(Expired.of(head, hopeless))
            return True
        if (replica_id := self._place_for(head)) is None:
            return False
        self._leases.grant(self._room.grant(head), replica_id, self._room.policy, now_s)
        self._fleet.remember(replica_id, head.ticket.prefixes)
        return True

    def _place_for(self, head: QueuedTicket) -> str | None:
        """Where there is room, else where the lowest of all that run gives way; the engine there chooses the victim."""
        need, policy = head.ticket.need, self._room.policy
        roomy = self._fleet.best_for(need, head.ticket.prefixes)
        if roomy is not None:
            return roomy
        is_urgent = head.stamp.priority > 0
        return self._fleet.where_outranked(need, self._room.key_now(head), policy.margin, is_urgent=is_urgent)

    def _unpark(self, head: QueuedTicket, now_s: float, events: list[Event]) -> bool:
        """A parked one goes on where it is, or, where only another replica has room, moves: its place there is kept."""
        assert head.parked_on is not None
        home = self._fleet.get(head.parked_on)
        if home is not None and home.could_resume(head.ticket.need):
            self._leases.resume(self._room.grant(head))
            events.append(Resumed(head.parked_on, head.lease_id, head.stamp))
        elif (replica_id := self._fleet.best_for(head.ticket.need)) is not None:
            self._kept.keep(self._room.grant(head), replica_id, now_s)
            events.append(Moved(head.parked_on, head.lease_id))
        else:
            return False
        return True
