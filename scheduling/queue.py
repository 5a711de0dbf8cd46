"""Owns the order of those who wait. Knows nothing of replicas, bounds, deadlines or clocks."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from scheduling.fairness import FairShares
from scheduling.lazy_heap import LazyHeap, Position
from scheduling.queued import Backlog, QueuedTicket
from scheduling.request import Ticket
from scheduling.score import ScorePolicy, Stamp
from scheduling.tenant_turns import TenantTurns
from scheduling.work_ahead import WorkAhead


class WaitingQueue:
    """The waiting tickets: within a tenant the highest key first, equal keys in order of arrival; tenants take turns.

    The order within a tenant is total: (-key, arrival, seq) never ties. A ticket that left and comes back through
    `restore` has its old place. With one tenant that is all; between tenants see `TenantTurns`.
    """

    def __init__(self, policy: ScorePolicy) -> None:
        self._policy = policy
        self._shares = FairShares()
        self._turns = TenantTurns(policy, self._shares)
        self._queued: dict[str, QueuedTicket] = {}
        self._lines: dict[str, LazyHeap] = {}
        self._sheddable_worst_first = LazyHeap()
        self._work = WorkAhead(policy.grain)
        self._num_tokens = self._num_parked = 0
        self._next_seq = 0

    def __len__(self) -> int:
        return len(self._queued)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._queued

    def __iter__(self) -> Iterator[QueuedTicket]:
        """In the order in which they would be granted if nobody else came, for a snapshot: O(n log n)."""
        lines: dict[str, list[QueuedTicket]] = {}
        for queued in sorted(self._queued.values(), key=self.position, reverse=True):
            lines.setdefault(queued.tenant, []).append(queued)
        tags_s = {tenant: self._turns.tag_s(tenant) for tenant in lines}
        turns = [(self._turn(line[-1], tags_s[tenant]), tenant) for tenant, line in lines.items()]
        heapq.heapify(turns)
        while turns:
            _, tenant = heapq.heappop(turns)
            queued = lines[tenant].pop()
            yield queued
            tags_s[tenant] += self._turns.service_s(tenant, self._charge_of(queued))
            if line := lines[tenant]:
                heapq.heappush(turns, (self._turn(line[-1], tags_s[tenant]), tenant))

    @property
    def policy(self) -> ScorePolicy:
        return self._policy

    @property
    def turns(self) -> TenantTurns:
        """Whose turn it is, to look at."""
        return self._turns

    @property
    def num_tokens(self) -> int:
        """Prompt and longest output of all who wait for a lease."""
        return self._num_tokens

    @property
    def num_sheddable(self) -> int:
        """How many of them may be shed."""
        return len(self._sheddable_worst_first)

    def backlog(self) -> Backlog:
        return Backlog(num_waiting=len(self._queued) - self._num_parked, num_tokens=self._num_tokens)

    def position(self, queued: QueuedTicket) -> Position:
        """The sort key within a tenant; the smaller position runs sooner."""
        return (-self._policy.line_key(queued.stamp), queued.stamp.arrival_s, queued.seq)

    def new_entry(self, ticket: Ticket, stamp: Stamp, owner: str = "") -> QueuedTicket:
        """Numbers the ticket in the order of arrival, without queueing it yet."""
        self._next_seq += 1
        return QueuedTicket(ticket, stamp, owner, self._next_seq)

    def push(self, ticket: Ticket, stamp: Stamp, owner: str = "") -> QueuedTicket:
        queued = self.new_entry(ticket, stamp, owner)
        self.restore(queued)
        return queued

    def restore(self, queued: QueuedTicket) -> None:
        """Puts an entry in, at the place that its stamp and number give it."""
        assert queued.lease_id not in self._queued, f"{queued.lease_id} waits already"
        self._queued[queued.lease_id] = queued
        self._count(queued, 1)
        self._index(queued)
        self._note_head(queued.tenant)

    def get(self, lease_id: str) -> QueuedTicket | None:
        return self._queued.get(lease_id)

    def unordered(self) -> Iterator[QueuedTicket]:
        """All who wait, in no useful order: O(n)."""
        return iter(self._queued.values())

    def peek(self) -> QueuedTicket | None:
        """The head: who runs next."""
        tenant = self._turns.first()
        return None if tenant is None else self._best_of(tenant)

    def pop(self) -> QueuedTicket | None:
        """Takes the head out, as granted."""
        head = self.peek()
        return None if head is None else self.grant(head)

    def grant(self, queued: QueuedTicket) -> QueuedTicket:
        """Takes a ticket out because it runs now: its tenant is charged, and its penalty is frozen.

        One that ran before was charged then, and keeps its stamp.
        """
        self._turns.pass_time()
        if not queued.is_new:
            self.remove(queued.lease_id)
            return queued
        penalty_s, num_charged = self._turns.lead_s(queued.tenant), self._charge_of(queued)
        self.remove(queued.lease_id)
        self._turns.charge(queued.tenant, num_charged)
        stamp = queued.stamp
        if penalty_s != stamp.penalty_s:
            stamp = replace(stamp, penalty_s=penalty_s)
        return QueuedTicket(queued.ticket, stamp, queued.owner, queued.seq, num_charged=num_charged)

    def ungrant(self, queued: QueuedTicket) -> QueuedTicket:
        """As it was before `grant`, for one that did not run after all; the tenant gets its charge back."""
        self._turns.charge(queued.tenant, -queued.num_charged)
        stamp = queued.ticket.stamp or replace(queued.stamp, penalty_s=0.0)
        return replace(queued, stamp=stamp, num_charged=0)

    def settle(self, queued: QueuedTicket, num_served: int) -> None:
        """A granted ticket has ended, and was served so many tokens; the tenant was charged what was expected."""
        self._turns.charge(queued.tenant, num_served - queued.num_charged)

    def lowest(self) -> QueuedTicket | None:
        """The first to be shed: the last in order among those that may be."""
        lease_id = self._sheddable_worst_first.first()
        return None if lease_id is None else self._queued[lease_id]

    def remove(self, lease_id: str) -> QueuedTicket | None:
        """Takes a ticket out; None when it does not wait."""
        queued = self._queued.pop(lease_id, None)
        if queued is not None:
            self._count(queued, -1)
            self._lines[queued.tenant].discard(lease_id)
            self._sheddable_worst_first.discard(lease_id)
            self._note_head(queued.tenant)
        return queued

    def rekey(self, policy: ScorePolicy, restamp: Callable[[Ticket, Stamp], Stamp] | None = None) -> None:
        """Orders everyone anew under another policy; stamps stay as they are but for what `restamp` adds to them."""
        self._policy = policy
        if restamp is not None:
            for lease_id, queued in self._queued.items():
                self._queued[lease_id] = replace(queued, stamp=restamp(queued.ticket, queued.stamp))
        self._lines, self._sheddable_worst_first, self._work = {}, LazyHeap(), WorkAhead(policy.grain)
        self._num_tokens = self._num_parked = 0
        for queued in self._queued.values():
            self._count(queued, 1)
            self._index(queued)
        self._turns.set_policy(policy)
        for tenant in self._lines:
            self._note_head(tenant)

    def tokens_ahead(self, newcomer: QueuedTicket, num_more: float = 0.0) -> float:
        """Expected tokens of those who would run before it, and `num_more` of its own tenant."""
        return self._work.of(newcomer.tenant, self._policy.line_key(newcomer.stamp), self._shares.weights, num_more)

    def num_waiting_by_tenant(self) -> dict[str, int]:
        return {tenant: len(line) for tenant, line in self._lines.items()}

    @property
    def tenant_weights(self) -> Mapping[str, float]:
        """As they were set."""
        return self._shares.weights

    def set_tenant_weights(self, weights: Mapping[str, float]) -> None:
        self._turns.set_weights(weights)

    def _count(self, queued: QueuedTicket, sign: int) -> None:
        if queued.parked_on is None:
            self._num_tokens += sign * queued.ticket.num_tokens
            self._work.add(queued.tenant, self._policy.line_key(queued.stamp), sign * queued.ticket.need.expected)
        else:
            self._num_parked += sign

    def _index(self, queued: QueuedTicket) -> None:
        position = self.position(queued)
        self._lines.setdefault(queued.tenant, LazyHeap()).push(queued.lease_id, position)
        if queued.may_be_shed:
            self._sheddable_worst_first.push(queued.lease_id, tuple(-part for part in position))

    def _best_of(self, tenant: str) -> QueuedTicket:
        lease_id = self._lines[tenant].first()
        assert lease_id is not None, f"tenant {tenant!r} has a turn, and nobody waits"
        return self._queued[lease_id]

    def _note_head(self, tenant: str) -> None:
        if len(self._lines[tenant]) == 0:
            del self._lines[tenant]
            self._turns.remove(tenant)
        else:
            head = self._best_of(tenant)
            self._turns.set_head(tenant, head.stamp, head.seq)

    def _charge_of(self, queued: QueuedTicket) -> int:
        return queued.ticket.need.expected if queued.is_new else 0

    def _turn(self, queued: QueuedTicket, tag_s: float) -> Position:
        return (-self._policy.turn_key(queued.stamp, tag_s), tag_s, queued.stamp.arrival_s, queued.seq)
