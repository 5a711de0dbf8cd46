"""Owns the life of every lease: granted, sent, claimed, over. Knows nothing of who waits, of order or of bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scheduling.fleet import Fleet
from scheduling.leases import Lease, LeaseStatus, LeaseTable
from scheduling.queued import QueuedTicket
from scheduling.recent_ids import RecentIds
from scheduling.request import Grant
from scheduling.score import ScorePolicy

_MAX_ENDED_REMEMBERED = 65_536


class LeaseDesk:
    """Gives leases out on the fleet and takes them back; an id that has ended never gets another.

    claim_timeout_s, sent_timeout_s: see `Dispatcher`.
    """

    def __init__(self, fleet: Fleet, policy: ScorePolicy, claim_timeout_s: float, sent_timeout_s: float) -> None:
        self._fleet = fleet
        self._claim_timeout_s = claim_timeout_s
        self._sent_timeout_s = sent_timeout_s
        self._table = LeaseTable(fleet, policy)
        self._ended = RecentIds(_MAX_ENDED_REMEMBERED)
        self._given_up = RecentIds(_MAX_ENDED_REMEMBERED)
        self._undelivered: dict[str, tuple[str, Grant]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Lease]:
        """In no useful order."""
        return iter(self._table)

    def get(self, lease_id: str) -> Lease | None:
        return self._table.get(lease_id)

    def is_over(self, lease_id: str) -> bool:
        """Whether it has ended, so that no replica runs it but by mistake."""
        return lease_id in self._ended

    def may_not_ask(self, lease_id: str) -> bool:
        """Whether nobody may ask for a place under this id any more."""
        return lease_id in self._ended or lease_id in self._given_up

    def grant(self, queued: QueuedTicket, replica_id: str, policy: ScorePolicy, now_s: float) -> None:
        """Leases a place to a ticket that waits no more; the grant is kept for `take_undelivered`."""
        lease = Lease(queued.lease_id, replica_id, LeaseStatus.GRANTED, queued)
        self._table.hold_until(lease, now_s + self._claim_timeout_s)
        grant = Grant(queued.lease_id, replica_id, queued.stamp, policy, now_s)
        self._undelivered[queued.lease_id] = (queued.owner, grant)

    def rekey(self, policy: ScorePolicy) -> None:
        """Other weights are in force."""
        self._table.rekey(policy)

    def park(self, lease_id: str, replica_id: str, waited: QueuedTicket | None) -> QueuedTicket | None:
        """The engine there let it give way. Returns the ticket, to wait under its old key; None if nothing is known of
        it, or if it waits so already. `waited`: as for `sent`."""
        lease = self._table.get(lease_id)
        if lease_id in self._ended or (lease is not None and lease.status is LeaseStatus.PARKED):
            return None
        queued = waited if lease is None else lease.queued
        if queued is None and self._fleet.get(replica_id) is None:
            return None
        self._take(lease_id)
        parked = None if queued is None else replace(queued, parked_on=replica_id)
        self._table.hold(Lease(lease_id, replica_id, LeaseStatus.PARKED, parked))
        return parked

    def restamp(self, lease_id: str, level: int) -> None:
        """The ticket of a lease, if it has one, has another level."""
        lease = self._table.get(lease_id)
        if lease is not None and lease.queued is not None:
            stamp = replace(lease.queued.stamp, level=level)
            self._table.hold(replace(lease, queued=replace(lease.queued, stamp=stamp)))

    def resume(self, queued: QueuedTicket) -> None:
        """A parked one may run again where it is."""
        lease = self._table.get(queued.lease_id)
        assert lease is not None and lease.status is LeaseStatus.PARKED, f"{queued.lease_id} is not parked"
        running = replace(queued, parked_on=None)
        self._table.hold(Lease(queued.lease_id, lease.replica_id, LeaseStatus.CLAIMED, running))

    def goes_on(self, lease_id: str, replica_id: str) -> bool:
        """The replica runs it. Whether it was parked there, and the queue had not said that it may."""
        lease = self._table.get(lease_id)
        if lease is None or lease.status is not LeaseStatus.PARKED or lease.replica_id != replica_id:
            return False
        running = None if lease.queued is None else replace(lease.queued, parked_on=None)
        self._table.hold(Lease(lease_id, replica_id, LeaseStatus.CLAIMED, running))
        return True

    def take_undelivered(self) -> list[tuple[str, Grant]]:
        """The (owner, grant) pairs since the last call, less those that have ended meanwhile."""
        grants, self._undelivered = list(self._undelivered.values()), {}
        return grants

    def adopt(self, lease: Lease, queued: QueuedTicket) -> QueuedTicket | None:
        """The ticket behind a lease that only a replica had told of; returned if it is parked, to wait again."""
        is_parked = lease.status is LeaseStatus.PARKED
        queued = replace(queued, parked_on=lease.replica_id if is_parked else None)
        self._table.hold(replace(lease, queued=queued))
        return queued if is_parked else None

    def sent(self, lease_id: str, replica_id: str, waited: QueuedTicket | None, now_s: float) -> None:
        """The owner sends the call to this replica. `waited`: the ticket, where it had gone back to wait."""
        if (sent := self._moved_on(lease_id, replica_id, LeaseStatus.SENT, waited)) is not None:
            self._table.hold_until(sent, now_s + self._sent_timeout_s)

    def claim(self, lease_id: str, replica_id: str, waited: QueuedTicket | None) -> None:
        """The replica holds the lease; the first of two claims stands. `waited`: as for `sent`."""
        if (claimed := self._moved_on(lease_id, replica_id, LeaseStatus.CLAIMED, waited)) is not None:
            self._table.hold(claimed)

    def next_due_s(self) -> float | None:
        """When the next lease that gets no further is lost."""
        return self._table.next_due_s()

    def take_due(self, now_s: float) -> list[Lease]:
        """Takes back the leases that got no further in time."""
        due = self._table.take_due(now_s)
        for lease in due:
            self._undelivered.pop(lease.lease_id, None)
        return due

    def end(self, lease_id: str) -> Lease | None:
        """The attempt is over for good, whether it held a lease or not; safe to repeat. Returns the lease it had."""
        self._ended.add(lease_id)
        return self._take(lease_id)

    def give_up(self, lease_id: str) -> None:
        """Nobody may ask for a place under this id again, as it waited in vain.

        A replica may still turn out to run it, on a grant that was taken too late and had gone back to wait.
        """
        self._given_up.add(lease_id)

    def replica_registered(self, replica_id: str) -> None:
        """Books what was claimed by the replica before it was known."""
        self._table.book_again(replica_id)

    def end_claimed_on(self, replica_id: str) -> list[Lease]:
        """The replica began anew, and what it ran or had parked is over; returns that."""
        ended = [self.end(lease_id) for lease_id in self._table.claimed_on(replica_id)]
        return [lease for lease in ended if lease is not None]

    def take_untold_on(self, replica_id: str) -> list[QueuedTicket]:
        """Takes back the leases there whose owners have not been told of them; returns the tickets."""
        untold = [lease_id for lease_id in self._table.on(replica_id) if lease_id in self._undelivered]
        leases = [self._take(lease_id) for lease_id in untold]
        return [lease.queued for lease in leases if lease is not None and lease.queued is not None]

    def end_on(self, replica_id: str) -> list[Lease]:
        """The replica is gone, and what was sent there with it; returns that. What was only granted falls due: an owner
        that never heard of its grant would ask for a place under an id that has ended."""
        on_replica = [self._table.get(lease_id) for lease_id in self._table.on(replica_id)]
        ended = [lease for lease in on_replica if lease is not None and lease.status is not LeaseStatus.GRANTED]
        for lease in ended:
            self.end(lease.lease_id)
        return ended

    def drop_owner(self, owner: str) -> list[Lease]:
        """Frees what the owner held, without an end: it may come back, and a replica may run a lease of it still."""
        dropped = (self._take(lease_id) for lease_id in self._table.of(owner))
        return [lease for lease in dropped if lease is not None]

    def _moved_on(
        self, lease_id: str, replica_id: str, status: LeaseStatus, waited: QueuedTicket | None
    ) -> Lease | None:
        """The lease to be held anew; None when it is over, claimed, or of no ticket and no replica known here."""
        lease = self._table.get(lease_id)
        if lease_id in self._ended or (lease is not None and lease.is_on_replica):
            return None
        queued = waited if lease is None else lease.queued
        if queued is None and self._fleet.get(replica_id) is None:
            return None
        self._take(lease_id)
        return Lease(lease_id, replica_id, status, queued)

    def _take(self, lease_id: str) -> Lease | None:
        self._undelivered.pop(lease_id, None)
        return self._table.take(lease_id)
