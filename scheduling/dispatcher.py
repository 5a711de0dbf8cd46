"""Owns the cluster's order: events in, grants out. Knows nothing of Ray, sockets or clocks; time comes in.

A ticket waits in the heap, is granted to a replica, sent there, claimed by it, and ends. The better key always goes
first: a head that fits no replica now reserves room, and nothing bypasses it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from scheduling.admission import Admission, AdmissionBounds
from scheduling.attempts import Attempts
from scheduling.errors import LeaseEnded
from scheduling.events import Event, Expired, Moved, Resumed, Shed
from scheduling.fleet import Fleet
from scheduling.front_door import FrontDoor
from scheduling.granting import Granting
from scheduling.hopeless import never_fits, too_late
from scheduling.kept_places import KeptPlaces
from scheduling.lease_desk import LeaseDesk
from scheduling.overtaking import OvertakingMonitor
from scheduling.quotas import QuotaLimits, Quotas
from scheduling.replicas import ReplicaState
from scheduling.request import Grant, Ticket
from scheduling.score import ScorePolicy, Stamp
from scheduling.snapshot import QueueSnapshot, take_snapshot
from scheduling.traffic import TrafficCount
from scheduling.waiting_room import WaitingRoom

__all__ = ["Dispatcher", "Expired", "Moved", "QueueSnapshot", "ReplicaState", "Resumed", "Shed"]


class Dispatcher:
    """The state machine behind one model's queue.

    Every `now_s` is made non-decreasing here, so a clock that steps back cannot reorder anyone. Lease ids are minted
    anew for each attempt: an id that has ended never comes back, and messages about it may come late, twice or in any
    order. Call `dispatch` after each batch of events, then `drain_events`.

    claim_timeout_s: how long a grant may go without its owner or its replica saying that it has it, and how long a
    place is kept for one that moves there.
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
        self._room = WaitingRoom(policy)
        self._admission = Admission(bounds, lambda: self._room.policy)
        self._fleet = Fleet()
        self._leases = LeaseDesk(self._fleet, policy, claim_timeout_s, sent_timeout_s)
        self._quotas = Quotas()
        self._attempts = Attempts(self._room, self._leases, self._admission.rate, self._quotas)
        self._kept = KeptPlaces(self._fleet, claim_timeout_s)
        self._granting = Granting(self._room, self._fleet, self._leases, self._kept)
        self._door = FrontDoor(self._room, self._admission, self._granting, self._leases, self._quotas)
        self._events: list[Event] = []
        self._traffic = TrafficCount()
        self._now_s: float | None = None
        self._ahead_s = 0.0  # of the clock that comes in

    @property
    def policy(self) -> ScorePolicy:
        return self._room.policy

    @property
    def bounds(self) -> AdmissionBounds:
        return self._admission.bounds

    @property
    def num_waiting(self) -> int:
        return len(self._room)

    @property
    def num_running(self) -> int:
        return len(self._leases)

    @property
    def overtaking(self) -> OvertakingMonitor:
        """What the check of every grant against all who waited has found so far."""
        return self._room.overtaking

    def waiting_stamp(self, lease_id: str) -> Stamp | None:
        """The stamp of a ticket that waits; None when it does not."""
        queued = self._room.get(lease_id)
        return None if queued is None else queued.stamp

    def next_due_s(self) -> float | None:
        """When `expire` will next have something to do, if no event comes before."""
        firsts = (self._room.next_due_s(), self._leases.next_due_s(), self._kept.next_due_s())
        return min((first_s for first_s in firsts if first_s is not None), default=None)

    def snapshot(self, now_s: float) -> QueueSnapshot:
        now_s, rate = self._advance(now_s), self._admission.rate
        return take_snapshot(self._room.queue, self._fleet, self._leases, rate, self._traffic.so_far, now_s)

    def drain_events(self) -> list[Event]:
        """What owners and replicas must be told since the last call, beside grants."""
        events, self._events = self._events, []
        self._return_charges(events)
        return events

    def reconfigure(
        self,
        policy: ScorePolicy,
        bounds: AdmissionBounds,
        tenant_weights: Mapping[str, float] | None = None,
        quotas: Mapping[str, QuotaLimits] | None = None,
    ) -> None:
        """Takes new bounds and tenants at once, and new weights of the score as a new epoch.

        The epoch of `policy` itself is not read. tenant_weights, quotas (by account): None leaves them as they are.
        """
        self._admission.set_bounds(bounds)
        if not policy.has_weights_of(self.policy):
            self._room.reweigh(policy)
            self._leases.rekey(self.policy)
        if tenant_weights is not None:
            self._room.queue.set_tenant_weights(tenant_weights)
        if quotas is not None:
            self._quotas.set_limits(quotas)

    def register_replica(self, state: ReplicaState, holding: Sequence[str] = (), parked: Collection[str] = ()) -> None:
        """Adds or updates a replica and lifts its quarantine. Idempotent.

        holding: lease ids that it has now; those that are new here (this queue restarted) take up a slot each, unless
        they are among `parked`.
        """
        known = self._fleet.get(state.replica_id)
        if known is not None and state.incarnation < known.state.incarnation:
            return
        if known is not None and state.incarnation > known.state.incarnation:
            self._attempts.begin_anew(state.replica_id)
        self._fleet.register(state)
        self._leases.replica_registered(state.replica_id)
        for lease_id in holding:
            self._attempts.holds(lease_id, state.replica_id, is_parked=lease_id in parked)

    def remove_replica(self, replica_id: str) -> None:
        """Forgets a replica and ends what ran there; the owners ask again, each with a new lease id.

        One that drains goes on with what it runs; those who gave way there would wait for ever, so they move.
        """
        self._events += [Moved(replica_id, lease_id) for lease_id in self._attempts.leave(replica_id)]
        self._fleet.remove(replica_id)
        self._admission.rate.forget(replica_id)

    def quarantine(self, replica_id: str) -> None:
        """No grants go there until it registers again; what it runs goes on."""
        self._attempts.withdraw_grants(replica_id)
        self._fleet.quarantine(replica_id)

    def observe_service(self, replica_id: str, num_served: int, now_s: float) -> None:
        """The replica has computed so many tokens since its start: what waits is predicted from that."""
        rate = self._admission.rate
        is_busy = self._room.backlog().num_waiting > 0 or not self._fleet.has_free_slot
        rate.observe(replica_id, num_served, self._advance(now_s), is_busy=is_busy)
        if (tokens_per_s := rate.tokens_per_s) is not None:
            self._room.queue.turns.set_rate(tokens_per_s)

    def claim(self, lease_id: str, replica_id: str) -> None:
        """The replica holds the lease, whatever became of the grant here; the first of two claims stands."""
        self._attempts.claim(lease_id, replica_id)

    def sent(self, lease_id: str, replica_id: str, now_s: float, ticket: Ticket | None = None, owner: str = "") -> None:
        """The owner has the grant and sends the call to this replica, which has longer to claim it from now on.

        ticket, owner: said again to a queue that does not know the lease.
        """
        self._attempts.sent(lease_id, replica_id, self._advance(now_s), ticket, owner)

    def park(self, lease_id: str, replica_id: str) -> None:
        """The replica's engine let it give way to another: it waits under its old key, and keeps its lease. Idempotent.

        `dispatch` says when it may go on (`Resumed`), or that it must go elsewhere (`Moved`).
        """
        if not self._attempts.park(lease_id, replica_id, self._now_s):
            self._events.append(Moved(replica_id, lease_id))  # nobody else would ever say what becomes of it

    def restamp(self, lease_id: str, level: int) -> None:
        """The replica's engine has let it fall to this level. An unknown id is fine."""
        self._attempts.restamp(lease_id, level)

    def enqueue(self, ticket: Ticket, owner: str, now_s: float) -> Stamp:
        """Queues a ticket and returns its stamp. The same lease id again changes nothing and returns the same stamp.

        A ticket that brings a stamp was accepted before: it keeps its place, is charged to no quota again and is not
        refused for lack of room.

        Raises:
            QueueFull: too much waits, and nobody who may be shed has a lower key.
            WaitTooLong: it would wait for longer than its class may.
            DeadlineUnmeetable, DeadlinePassed: it cannot start in time.
            QuotaSpent, LargerThanQuota: its account may not ask for so much.
            NeverFits: no registered replica is large enough.
            LeaseEnded: this attempt is over.
        """
        now_s = self._advance(now_s, at_least_s=ticket.stamp.arrival_s if ticket.stamp else None)
        known = self._attempts.known(ticket, owner, now_s)
        if known is not None:
            return known.stamp
        if self._leases.may_not_ask(ticket.lease_id):
            raise LeaseEnded(ticket.lease_id)
        newcomer = self._room.stamped(ticket, owner, now_s)
        if (hopeless := too_late(newcomer, now_s) or never_fits(newcomer, self._fleet)) is not None:
            raise hopeless
        if ticket.stamp is not None:
            self._kept.give_back(ticket.tenant, ticket.stamp)
            self._quotas.come_again(ticket.claim)
            self._room.enter(newcomer)
        else:
            self._events += self._door.let_in(newcomer, now_s, self._grant_heads)
        self._traffic.count_arrival(newcomer)
        return newcomer.stamp

    def cancel(self, lease_id: str) -> None:
        """Ends an attempt, waiting or running. Idempotent; an unknown id is fine."""
        self.release(lease_id)

    def release(self, lease_id: str, num_served: int | None = None) -> None:
        """The attempt is over and its slot is free. Idempotent; an unknown id is fine.

        num_served: tokens of prompt and answer that it was served; None where that is not known.
        """
        self._attempts.end(lease_id, num_served)

    def fail(self, lease_id: str) -> None:
        """The attempt is over and never ran, so it does not count as served. Idempotent; an unknown id is fine."""
        self._attempts.end(lease_id, num_served=0)

    def drop_owner(self, owner: str) -> None:
        """An ingress is gone, and with it its tickets and leases.

        None of them is remembered as ended: the ingress may come back, and a replica may run a lease of it still.
        """
        self._attempts.drop_owner(owner)

    def dispatch(self, now_s: float) -> list[tuple[str, Grant]]:
        """Grants leases in key order for as long as the head fits; returns (owner, grant) pairs in that order.

        Heads that have expired or can never fit are given up on the way, as events.
        """
        self._grant_heads(self._advance(now_s))
        return self._leases.take_undelivered()

    def expire(self, now_s: float) -> list[Expired]:
        """Takes unclaimed grants back into the heap, and gives up those whose deadline has passed."""
        expired = self._sweep(self._advance(now_s))
        self._return_charges(expired)
        return expired

    def _return_charges(self, events: Sequence[Event]) -> None:
        """Whoever waited in vain was served nothing."""
        for event in events:
            if isinstance(event, Expired | Shed):
                self._quotas.settle(event.ticket.claim, event.ticket.num_tokens, num_served=0)

    def _advance(self, now_s: float, at_least_s: float | None = None) -> float:
        """The queue's clock: never back, and never before an arrival that was stamped by an earlier queue.

        Where that queue's clock was ahead of this one's, this one goes on from there, and does not stand still.
        """
        before_s = -math.inf if self._now_s is None else self._now_s
        self._now_s = max(before_s, now_s + self._ahead_s)
        if at_least_s is not None and at_least_s > self._now_s:
            self._ahead_s += at_least_s - self._now_s
            self._now_s = at_least_s
        return self._now_s

    def _grant_heads(self, now_s: float) -> None:
        self._events += self._sweep(now_s)
        self._granting.run(now_s, self._events)

    def _sweep(self, now_s: float) -> list[Expired]:
        self._attempts.expire(now_s)
        self._kept.expire(now_s)
        for raised in self._room.promote(now_s):
            self._leases.restamp(raised.lease_id, raised.stamp.level)
        overdue = self._room.take_overdue(now_s)
        for expired in overdue:
            self._leases.give_up(expired.lease_id)
        return overdue
