"""Owns what becomes of an attempt once it is leased: sent, claimed, parked, over. Knows nothing of bounds or clocks."""

from __future__ import annotations

from scheduling.lease_desk import LeaseDesk
from scheduling.leases import Lease, LeaseStatus
from scheduling.queued import QueuedTicket
from scheduling.quotas import Quotas
from scheduling.request import Ticket
from scheduling.service_rate import ServiceRate
from scheduling.unsettled import Unsettled
from scheduling.waiting_room import WaitingRoom


class Attempts:
    """Takes what owners and replicas say of attempts, late, twice or in any order, to the waiting room and the desk.

    What a method means is said in `Dispatcher`.
    """

    def __init__(self, room: WaitingRoom, leases: LeaseDesk, rate: ServiceRate, quotas: Quotas) -> None:
        self._room = room
        self._leases = leases
        self._rate = rate
        self._quotas = quotas
        self._unsettled = Unsettled()

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

    def holds(self, lease_id: str, replica_id: str, *, is_parked: bool) -> None:
        """The replica says what it has now, whatever was told of it before."""
        lease = self._leases.get(lease_id)
        is_news = lease is None or not lease.is_on_replica  # else it may have been told meanwhile that it may go on
        self.claim(lease_id, replica_id)
        if is_parked and is_news:
            self.park(lease_id, replica_id, None)
        elif not is_parked and self._leases.goes_on(lease_id, replica_id):
            self._room.take(lease_id)  # while there was no queue to say so

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

    def park(self, lease_id: str, replica_id: str, now_s: float | None) -> bool:
        """False where it does not wait: its lease is over, has ended with its replica, or is of no known ticket."""
        if self._leases.is_over(lease_id):
            return False
        parked = self._leases.park(lease_id, replica_id, self._take_unleased(lease_id))
        if parked is not None:
            self._room.enter(parked, now_s)
        return lease_id in self._room

    def restamp(self, lease_id: str, level: int) -> None:
        self._leases.restamp(lease_id, level)
        self._room.restamp(lease_id, level)

    def end(self, lease_id: str, num_served: int | None) -> None:
        """An end is told by several, in any order; the first that says what was served is believed."""
        waited = self._room.take(lease_id)
        if waited is not None and waited.parked_on is None:
            self._quotas.settle(waited.ticket.claim, waited.ticket.num_tokens, num_served or 0)
        lease = self._leases.end(lease_id)
        ended = self._unsettled.take(lease_id) if lease is None else lease.queued
        if ended is None:
            return
        if num_served is None:
            self._unsettled.put(ended)
        else:
            self._settle(ended, num_served)

    def begin_anew(self, replica_id: str) -> None:
        """What the replica ran or had parked is over."""
        for lease in self._leases.end_claimed_on(replica_id):
            self._keep(lease)
            self._room.take(lease.lease_id)

    def leave(self, replica_id: str) -> list[str]:
        """The replica is gone, or drains; returns those who were parked there, and would wait for ever."""
        self.withdraw_grants(replica_id)
        ended = self._leases.end_on(replica_id)
        for lease in ended:
            self._keep(lease)
            self._room.take(lease.lease_id)
        return [lease.lease_id for lease in ended if lease.status is LeaseStatus.PARKED]

    def drop_owner(self, owner: str) -> None:
        self._room.drop_owner(owner)
        for lease in self._leases.drop_owner(owner):
            self._keep(lease)

    def expire(self, now_s: float) -> None:
        """Who was sent nowhere in time waits on; a call that was sent may turn out to run all the same."""
        for lease in self._leases.take_due(now_s):
            if lease.status is LeaseStatus.GRANTED and lease.queued is not None:
                self._room.return_ungranted(lease.queued)
            else:
                self._keep(lease)

    def withdraw_grants(self, replica_id: str) -> None:
        """Who was granted a place there and has not been told of it waits on; nobody else would ask again for it."""
        for untold in self._leases.take_untold_on(replica_id):
            self._room.return_ungranted(untold)

    def _adopt(self, lease: Lease, queued: QueuedTicket) -> QueuedTicket:
        parked = self._leases.adopt(lease, queued)
        if parked is not None:
            self._room.enter(parked)
        return queued

    def _keep(self, lease: Lease) -> None:
        """What it is served may be told later, and it may turn out to run."""
        if lease.queued is not None:
            self._unsettled.put(lease.queued)

    def _settle(self, ended: QueuedTicket, num_served: int) -> None:
        self._room.queue.settle(ended, num_served)
        self._quotas.settle(ended.ticket.claim, ended.ticket.num_tokens, num_served)
        if num_served:
            self._room.lengths.observe(ended.ticket, num_served)
            self._rate.observe_release(ended.num_charged, num_served)

    def _take_unleased(self, lease_id: str) -> QueuedTicket | None:
        """The ticket, if it waits for a lease, or has lost one: one that is parked has its lease, and waits on."""
        queued = self._room.get(lease_id)
        if queued is None:
            return None if self._leases.is_over(lease_id) else self._unsettled.take(lease_id)
        return None if queued.parked_on is not None else self._room.take(lease_id)
