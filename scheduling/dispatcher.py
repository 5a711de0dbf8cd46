"""Owns the cluster's order: events in, grants out. Knows nothing of Ray, sockets or clocks; time comes in.

A ticket waits in the heap, is granted to a replica, sent there, claimed by it, and ends. The better key always goes
first: a head that fits no replica now reserves room, and nothing bypasses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scheduling.admission import Admission, AdmissionBounds
from scheduling.errors import DeadlinePassed, LeaseEnded, NeverFits
from scheduling.events import Expired, Shed
from scheduling.hopeless import never_fits, too_late
from scheduling.lazy_heap import LazyHeap
from scheduling.leases import Lease, LeaseStatus, LeaseTable, RecentIds
from scheduling.overtaking import OvertakingMonitor
from scheduling.queue import QueuedTicket, WaitingQueue
from scheduling.replicas import Fleet, ReplicaState
from scheduling.request import Grant, Ticket
from scheduling.score import ScorePolicy, Stamp
from scheduling.shedding import shed_below
from scheduling.snapshot import QueueSnapshot, take_snapshot

__all__ = ["Dispatcher", "Expired", "QueueSnapshot", "ReplicaState", "Shed"]

_MAX_ENDED_REMEMBERED = 65_536


class Dispatcher:
    """The state machine behind one model's queue.

    Every `now_s` is made non-decreasing here, so a clock that steps back cannot reorder anyone. Lease ids are minted
    anew for each attempt: an id that has ended never comes back, and messages about it may come late, twice or in any
    order. Call `dispatch` after each batch of events, then `drain_events`.

    claim_timeout_s: how long a grant may go without its owner or its replica saying that it has it.
    sent_timeout_s: how long a call that its owner has sent may go without the replica saying that it runs.
    """

    def __init__(
        self,
        policy: ScorePolicy,
        bounds: AdmissionBounds,
        *,
        claim_timeout_s: float = 1.0,
        sent_timeout_s: float = 10.0,
    ) -> None:
        self._queue = WaitingQueue(policy)
        self._admission = Admission(bounds)
        self._overtaking = OvertakingMonitor()
        self._claim_timeout_s = claim_timeout_s
        self._sent_timeout_s = sent_timeout_s
        self._fleet = Fleet()
        self._leases = LeaseTable(self._fleet)
        self._ended = RecentIds(_MAX_ENDED_REMEMBERED)
        self._deadlines = LazyHeap()
        self._events: list[Shed | Expired] = []
        self._undelivered: dict[str, tuple[str, Grant]] = {}
        self._now_s: float | None = None
        self._num_released = 0

    @property
    def policy(self) -> ScorePolicy:
        return self._queue.policy

    @property
    def bounds(self) -> AdmissionBounds:
        return self._admission.bounds

    @property
    def num_waiting(self) -> int:
        return len(self._queue)

    @property
    def num_running(self) -> int:
        return len(self._leases)

    @property
    def overtaking(self) -> OvertakingMonitor:
        """What the check of every grant against all who waited has found so far."""
        return self._overtaking

    def waiting_stamp(self, lease_id: str) -> Stamp | None:
        """The stamp of a ticket that waits; None when it does not."""
        queued = self._queue.get(lease_id)
        return None if queued is None else queued.stamp

    def next_due_s(self) -> float | None:
        """When `expire` will next have something to do, if no event comes before."""
        deadline = self._deadlines.first_position()
        firsts = (None if deadline is None else deadline[0], self._leases.next_due_s())
        return min((first_s for first_s in firsts if first_s is not None), default=None)

    def snapshot(self, now_s: float) -> QueueSnapshot:
        return take_snapshot(self._queue, self._fleet, self._advance(now_s))

    def drain_events(self) -> list[Shed | Expired]:
        """What owners must be told since the last call."""
        events, self._events = self._events, []
        return events

    def reconfigure(self, policy: ScorePolicy, bounds: AdmissionBounds) -> None:
        """Takes new bounds at once, and new weights as a new epoch; the epoch of `policy` itself is not read."""
        self._admission.bounds = bounds
        if not policy.has_weights_of(self.policy):
            self._queue.rekey(replace(policy, epoch=self.policy.epoch + 1))

    def register_replica(self, state: ReplicaState, holding: Sequence[str] = ()) -> None:
        """Adds or updates a replica and lifts its quarantine. Idempotent.

        holding: lease ids that it runs now; those that are new here (this queue restarted) take up a slot each.
        """
        known = self._fleet.get(state.replica_id)
        if known is not None and state.incarnation < known.state.incarnation:
            return
        if known is not None and state.incarnation > known.state.incarnation:
            self._end_all(self._leases.claimed_on(state.replica_id))
        self._fleet.register(state)
        self._leases.book_again(state.replica_id)
        for lease_id in holding:
            self.claim(lease_id, state.replica_id)

    def remove_replica(self, replica_id: str) -> list[str]:
        """Forgets a replica and ends what ran there; the owners ask again, each with a new lease id."""
        lost = self._leases.on(replica_id)
        self._end_all(lost)
        self._fleet.remove(replica_id)
        return lost

    def quarantine(self, replica_id: str) -> None:
        """No grants go there until it registers again; what it runs goes on."""
        self._fleet.quarantine(replica_id)

    def claim(self, lease_id: str, replica_id: str) -> None:
        """The replica holds the lease, whatever became of the grant here; the first of two claims stands."""
        if (claimed := self._moved_on(lease_id, replica_id, LeaseStatus.CLAIMED)) is not None:
            self._leases.hold(claimed)

    def sent(self, lease_id: str, replica_id: str, now_s: float) -> None:
        """The owner has the grant and sends the call to this replica, which has longer to claim it from now on."""
        now_s = self._advance(now_s)
        if (sent := self._moved_on(lease_id, replica_id, LeaseStatus.SENT)) is not None:
            self._leases.hold_until(sent, now_s + self._sent_timeout_s)

    def _moved_on(self, lease_id: str, replica_id: str, status: LeaseStatus) -> Lease | None:
        """The lease taken from wherever it is here, to be held anew; None when it is over, claimed or of no replica."""
        lease = self._leases.get(lease_id)
        if lease_id in self._ended or (lease is not None and lease.status is LeaseStatus.CLAIMED):
            return None
        queued = self._take_waiting(lease_id) if lease is None else lease.queued
        if queued is None and self._fleet.get(replica_id) is None:
            return None
        self._take_lease(lease_id)
        return Lease(lease_id, replica_id, status, queued)

    def enqueue(self, ticket: Ticket, owner: str, now_s: float) -> Stamp:
        """Queues a ticket and returns its stamp. The same lease id again changes nothing and returns the same stamp.

        A ticket that brings a stamp was accepted before: it keeps its place and is not refused for lack of room.

        Raises:
            QueueFull: too much waits, and nobody who may be shed has a lower key.
            DeadlineUnmeetable, DeadlinePassed: it cannot start in time.
            NeverFits: no registered replica is large enough.
            LeaseEnded: this attempt is over.
        """
        now_s = self._advance(now_s, at_least_s=ticket.stamp.arrival_s if ticket.stamp else None)
        known = self._queue.get(ticket.lease_id) or self._adopt(ticket, owner, now_s)
        if known is not None:
            return known.stamp
        if ticket.lease_id in self._ended:
            raise LeaseEnded(ticket.lease_id)
        newcomer = self._queue.new_entry(ticket, self._stamp(ticket, now_s), owner)
        if (hopeless := too_late(newcomer, now_s) or never_fits(newcomer, self._fleet)) is not None:
            raise hopeless
        self._wait(newcomer)
        if ticket.stamp is None and self._admission.is_exceeded_by(self._queue.backlog()):
            self._grant_heads(now_s)  # nobody gives way to an idle slot
            self._make_room(newcomer, now_s)
        return newcomer.stamp

    def cancel(self, lease_id: str) -> None:
        """Ends an attempt, waiting or running. Idempotent; an unknown id is fine."""
        self.release(lease_id)

    def release(self, lease_id: str) -> None:
        """The attempt is over and its slot is free. Idempotent; an unknown id is fine."""
        if self._end(lease_id) is not None:
            self._num_released += 1

    def fail(self, lease_id: str) -> None:
        """The attempt is over and never ran, so it does not count as served. Idempotent; an unknown id is fine."""
        self._end(lease_id)

    def drop_owner(self, owner: str) -> None:
        """An ingress is gone, and with it its tickets and leases.

        None of them is remembered as ended: the ingress may come back, and a replica may run a lease of it still.
        """
        for queued in [queued for queued in self._queue.unordered() if queued.owner == owner]:
            self._take_waiting(queued.lease_id)
        for lease_id in self._leases.of(owner):
            self._take_lease(lease_id)

    def dispatch(self, now_s: float) -> list[tuple[str, Grant]]:
        """Grants leases in key order for as long as the head fits; returns (owner, grant) pairs in that order.

        Heads that have expired or can never fit are given up on the way, as events.
        """
        self._grant_heads(self._advance(now_s))
        grants, self._undelivered = list(self._undelivered.values()), {}
        return grants

    def expire(self, now_s: float) -> list[Expired]:
        """Takes unclaimed grants back into the heap, and gives up those whose deadline has passed."""
        return self._sweep(self._advance(now_s))

    def _advance(self, now_s: float, at_least_s: float | None = None) -> float:
        """The queue's clock: never back, and never before an arrival that was stamped by an earlier queue."""
        before_s = now_s if self._now_s is None else self._now_s
        self._now_s = max(before_s, now_s, before_s if at_least_s is None else at_least_s)
        if self._leases or self._num_released:
            self._admission.observe(self._now_s - before_s, self._num_released)
            self._num_released = 0
        return self._now_s

    def _stamp(self, ticket: Ticket, now_s: float) -> Stamp:
        """The one place where a place in the order is made."""
        return ticket.stamp or Stamp(priority=ticket.priority, arrival_s=now_s)

    def _adopt(self, ticket: Ticket, owner: str, now_s: float) -> QueuedTicket | None:
        """The entry behind a lease; one that only a replica had told of takes this ticket as its own."""
        if (lease := self._leases.get(ticket.lease_id)) is None:
            return None
        if lease.queued is None:
            queued = self._queue.new_entry(ticket, self._stamp(ticket, now_s), owner)
            lease = replace(lease, queued=queued)
            self._leases.hold(lease)
        return lease.queued

    def _make_room(self, newcomer: QueuedTicket, now_s: float) -> None:
        """Sheds lower keys, or refuses the newcomer; nothing to do when it has been granted meanwhile."""
        if newcomer.lease_id not in self._queue:
            return
        victims = shed_below(newcomer, self._queue, self._admission)
        if victims is None:
            self._take_waiting(newcomer.lease_id)
            raise self._admission.refusal(self._queue.backlog(), now_s)
        for victim in victims:
            error = self._admission.refusal(self._queue.backlog(), now_s)
            self._events.append(Shed(victim.owner, victim.lease_id, victim.ticket.request_id, error))
            self._end(victim.lease_id)

    def _grant_heads(self, now_s: float) -> None:
        self._events += self._sweep(now_s)
        grants = []
        while (head := self._queue.peek()) is not None:
            if (hopeless := never_fits(head, self._fleet)) is not None:
                self._events.append(self._give_up(head, hopeless))
            elif (replica_id := self._fleet.best_for(head.ticket.need)) is not None:
                grants.append(self._grant(head, replica_id, now_s))
            else:
                break
        self._overtaking.observe(grants, (queued.stamp for queued in self._queue.unordered()))

    def _grant(self, head: QueuedTicket, replica_id: str, now_s: float) -> Grant:
        self._take_waiting(head.lease_id)
        lease = Lease(head.lease_id, replica_id, LeaseStatus.GRANTED, head)
        self._leases.hold_until(lease, now_s + self._claim_timeout_s)
        grant = Grant(head.lease_id, replica_id, head.stamp, self.policy, now_s)
        self._undelivered[head.lease_id] = (head.owner, grant)
        return grant

    def _sweep(self, now_s: float) -> list[Expired]:
        for lease in self._leases.take_due(now_s):
            self._undelivered.pop(lease.lease_id, None)
            if lease.status is LeaseStatus.GRANTED and lease.queued is not None:
                self._wait(lease.queued)
        return [self._past_deadline(lease_id, now_s) for lease_id in self._deadlines.pop_up_to((now_s,))]

    def _past_deadline(self, lease_id: str, now_s: float) -> Expired:
        queued = self._queue.get(lease_id)
        assert queued is not None and queued.ticket.deadline_s is not None, f"{lease_id}: a deadline, but no wait"
        return self._give_up(queued, DeadlinePassed(queued.ticket.deadline_s, now_s - queued.stamp.arrival_s))

    def _give_up(self, queued: QueuedTicket, error: DeadlinePassed | NeverFits) -> Expired:
        self._end(queued.lease_id)
        return Expired(queued.owner, queued.lease_id, queued.ticket.request_id, error)

    def _wait(self, queued: QueuedTicket) -> None:
        self._queue.restore(queued)
        if queued.ticket.deadline_s is not None:
            self._deadlines.push(queued.lease_id, (queued.stamp.arrival_s + queued.ticket.deadline_s,))

    def _take_waiting(self, lease_id: str) -> QueuedTicket | None:
        self._deadlines.discard(lease_id)
        return self._queue.remove(lease_id)

    def _take_lease(self, lease_id: str) -> Lease | None:
        self._undelivered.pop(lease_id, None)
        return self._leases.take(lease_id)

    def _end(self, lease_id: str) -> Lease | None:
        """Whatever state the attempt is in, it is over; safe to repeat. Returns the lease that it had."""
        self._take_waiting(lease_id)
        self._ended.add(lease_id)
        return self._take_lease(lease_id)

    def _end_all(self, lease_ids: Iterable[str]) -> None:
        for lease_id in lease_ids:
            self._end(lease_id)
