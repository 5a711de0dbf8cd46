"""Owns what becomes of an attempt once it is leased: sent, claimed, parked, over. Knows nothing of bounds or clocks."""

from __future__ import annotations

from collections.abc import Sequence

from scheduling.lease_desk import LeaseDesk
from scheduling.leases import Lease
from scheduling.queued import QueuedTicket
from scheduling.request import Ticket
from scheduling.service_rate import ServiceRate
from scheduling.waiting_room import WaitingRoom


class Attempts:
    """Takes what owners and replicas say of attempts, late, twice or in any order, to the waiting room and the desk.

    What a method means is said in `Dispatcher`.
    """

    def __init__(self, room: WaitingRoom, leases: LeaseDesk, rate: ServiceRate) -> None:
        self._room = room
        self._leases = leases
        self._rate = rate

    def known(self, ticket: Ticket, owner: str, now_s: float) -> QueuedTicket | None:
        """The entry of an attempt that waits or holds a lease already; None for a new one.

        A lease that only a replica had told of takes this ticket as its own.
        """
        if (queued := self._room.get(ticket.lease_id)) is not None:
            return queued
        if (lease := self._leases.get(ticket.lease_id)) is None:
            return None
        return lease.queued or self._adopt(lease, self._room.stamped(ticket, owner, now_s))

    def claim(self, lease_id: str, replica_id: str) -> None:
        self._leases.claim(lease_id, replica_id, self._take_unleased(lease_id))

    def sent(self, lease_id: str, replica_id: str, now_s: float, ticket: Ticket | None, owner: str) -> None:
        waited = self._take_unleased(lease_id)
        if waited is None and ticket is not None:
            if (lease := self._leases.get(lease_id)) is not None and lease.queued is not None:
                return
            waited = self._room.stamped(ticket, owner, now_s)
            if lease is not None:
                self._adopt(lease, waited)
                return
        self._leases.sent(lease_id, replica_id, waited, now_s)

    def park(self, lease_id: str, replica_id: str, now_s: float | None) -> None:
        parked = self._leases.park(lease_id, replica_id, self._take_unleased(lease_id))
        if parked is not None:
            self._room.enter(parked, now_s)

    def restamp(self, lease_id: str, level: int) -> None:
        self._leases.restamp(lease_id, level)
        self._room.restamp(lease_id, level)

    def end(self, lease_id: str, num_served: int | None) -> None:
        self._room.take(lease_id)
        lease = self._leases.end(lease_id)
        if lease is not None and lease.queued is not None and num_served is not None:
            self._room.queue.settle(lease.queued, num_served)
            if num_served:
                self._room.lengths.observe(lease.queued.ticket, num_served)
                self._rate.observe_release(lease.queued.num_charged, num_served)

    def leave(self, lost: Sequence[str]) -> None:
        """Those of them that were parked waited to go on where they were; they do no more."""
        for lease_id in lost:
            self._room.take(lease_id)

    def withdraw_grants(self, replica_id: str) -> None:
        """Who was granted a place there and has not been told of it waits on; nobody else would ask again for it."""
        for untold in self._leases.take_untold_on(replica_id):
            self._room.return_ungranted(untold)

    def _adopt(self, lease: Lease, queued: QueuedTicket) -> QueuedTicket:
        parked = self._leases.adopt(lease, queued)
        if parked is not None:
            self._room.enter(parked)
        return queued

    def _take_unleased(self, lease_id: str) -> QueuedTicket | None:
        """The ticket, if it waits for a lease: one that is parked has its lease, and waits on."""
        queued = self._room.get(lease_id)
        return None if queued is None or queued.parked_on is not None else self._room.take(lease_id)
