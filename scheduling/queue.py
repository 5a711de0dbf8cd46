"""Owns the order of those who wait. Knows nothing of replicas, bounds, deadlines or clocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scheduling.lazy_heap import LazyHeap, Position
from scheduling.request import Ticket
from scheduling.score import ScorePolicy, Stamp


@dataclass(frozen=True, slots=True)
class QueuedTicket:
    """A stamped ticket, who asked for it, and its number in the order of first arrival at this queue."""

    ticket: Ticket
    stamp: Stamp
    owner: str
    seq: int

    @property
    def lease_id(self) -> str:
        return self.ticket.lease_id

    @property
    def may_be_shed(self) -> bool:
        """Work below standard priority, unless it ran before: its client may have seen tokens already."""
        return self.stamp.priority < 0 and self.ticket.stamp is None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits. `num_tokens` counts prompt and longest output."""

    num_waiting: int
    num_tokens: int


class WaitingQueue:
    """The waiting tickets, the highest key first; equal keys in order of arrival.

    The order is total: (-key, arrival, seq) never ties. A ticket that left and comes back through `restore` has its
    old place.
    """

    def __init__(self, policy: ScorePolicy) -> None:
        self._policy = policy
        self._queued: dict[str, QueuedTicket] = {}
        self._best_first = LazyHeap()
        self._sheddable_worst_first = LazyHeap()
        self._num_tokens = 0
        self._next_seq = 0

    def __len__(self) -> int:
        return len(self._queued)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._queued

    def __iter__(self) -> Iterator[QueuedTicket]:
        """In order, for a snapshot: O(n log n)."""
        return iter(sorted(self._queued.values(), key=self.position))

    @property
    def policy(self) -> ScorePolicy:
        return self._policy

    @property
    def num_tokens(self) -> int:
        """Prompt and longest output of all who wait."""
        return self._num_tokens

    def backlog(self) -> Backlog:
        return Backlog(num_waiting=len(self._queued), num_tokens=self._num_tokens)

    def position(self, queued: QueuedTicket) -> Position:
        """The sort key; the smaller position runs sooner."""
        return (-self._policy.key(queued.stamp), queued.stamp.arrival_s, queued.seq)

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
        self._num_tokens += queued.ticket.num_tokens
        self._index(queued)

    def get(self, lease_id: str) -> QueuedTicket | None:
        return self._queued.get(lease_id)

    def unordered(self) -> Iterator[QueuedTicket]:
        """All who wait, in no useful order: O(n)."""
        return iter(self._queued.values())

    def peek(self) -> QueuedTicket | None:
        """The head: who runs next."""
        lease_id = self._best_first.first()
        return None if lease_id is None else self._queued[lease_id]

    def pop(self) -> QueuedTicket | None:
        head = self.peek()
        return None if head is None else self.remove(head.lease_id)

    def lowest(self) -> QueuedTicket | None:
        """The first to be shed: the last in order among those that may be."""
        lease_id = self._sheddable_worst_first.first()
        return None if lease_id is None else self._queued[lease_id]

    def remove(self, lease_id: str) -> QueuedTicket | None:
        """Takes a ticket out; None when it does not wait."""
        queued = self._queued.pop(lease_id, None)
        if queued is not None:
            self._num_tokens -= queued.ticket.num_tokens
            self._best_first.discard(lease_id)
            self._sheddable_worst_first.discard(lease_id)
        return queued

    def rekey(self, policy: ScorePolicy) -> None:
        """Orders everyone anew under other weights; stamps stay as they are."""
        self._policy = policy
        self._best_first, self._sheddable_worst_first = LazyHeap(), LazyHeap()
        for queued in self._queued.values():
            self._index(queued)

    def _index(self, queued: QueuedTicket) -> None:
        position = self.position(queued)
        self._best_first.push(queued.lease_id, position)
        if queued.may_be_shed:
            self._sheddable_worst_first.push(queued.lease_id, tuple(-part for part in position))
