"""Owns who waits, under which stamp and until when. Knows nothing of replicas, leases or bounds."""

from __future__ import annotations

from dataclasses import replace

from scheduling.errors import DeadlinePassed
from scheduling.events import Expired
from scheduling.lazy_heap import LazyHeap
from scheduling.lengths import LengthEstimate
from scheduling.overtaking import OvertakingMonitor
from scheduling.queue import WaitingQueue
from scheduling.queued import Backlog, QueuedTicket
from scheduling.request import Ticket
from scheduling.score import ScorePolicy, Stamp


class WaitingRoom:
    """The waiting tickets in their order, each with its deadline for as long as it waits."""

    def __init__(self, policy: ScorePolicy) -> None:
        self._queue = WaitingQueue(policy)
        self._deadlines = LazyHeap()
        self._below_best = LazyHeap()  # since when, of those whose level may be raised
        self.lengths = LengthEstimate()
        self.overtaking = OvertakingMonitor(policy)

    def __len__(self) -> int:
        return len(self._queue)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._queue

    @property
    def queue(self) -> WaitingQueue:
        """The order, to look at: who enters or leaves does so through the room."""
        return self._queue

    @property
    def policy(self) -> ScorePolicy:
        return self._queue.policy

    def reweigh(self, policy: ScorePolicy) -> None:
        """Takes new weights as a new epoch; the epoch of `policy` itself is not read."""
        self._queue.rekey(replace(policy, epoch=self.policy.epoch + 1), self._measured)
        self.overtaking.rekey(self.policy)
        self._below_best = LazyHeap()
        for queued in self._queue.unordered():
            self._watch_level(queued, queued.stamp.arrival_s)

    def refresh(self, now_s: float) -> None:
        """Keys that change with time are worked out anew: O(n log n)."""
        self._queue.rekey(self.policy.as_of(now_s))

    def restamp(self, lease_id: str, level: int) -> QueuedTicket | None:
        """Gives one that waits another level; None when it does not wait."""
        if (queued := self.take(lease_id)) is None:
            return None
        restamped = replace(queued, stamp=replace(queued.stamp, level=level))
        self.enter(restamped)
        return restamped

    def promote(self, now_s: float) -> list[QueuedTicket]:
        """Raises those to the best level who have waited for long enough; returns them."""
        if not self.policy.has_levels:
            return []
        due = self._below_best.pop_up_to((now_s - self.policy.promote_after_s,))
        raised = (self.restamp(lease_id, 0) for lease_id in due)
        return [queued for queued in raised if queued is not None]

    def stamped(self, ticket: Ticket, owner: str, now_s: float) -> QueuedTicket:
        """The ticket with its place in the order, not waiting yet. The one place where a stamp is made."""
        stamp = ticket.stamp or self._measured(ticket, Stamp(priority=ticket.priority, arrival_s=now_s))
        return self._queue.new_entry(ticket, stamp, owner)

    def _measured(self, ticket: Ticket, stamp: Stamp) -> Stamp:
        """The stamp with what the policy in force goes by."""
        policy = self.policy
        if policy.goes_by_length and not stamp.num_tokens:
            return replace(stamp, num_tokens=self.lengths.expected_tokens(ticket))
        if policy.has_levels and ticket.stamp is None:
            return replace(stamp, level=policy.first_level(ticket.num_prompt_tokens))
        return stamp

    def enter(self, queued: QueuedTicket, now_s: float | None = None) -> None:
        """Lets it wait at the place that its stamp gives it, for the first time or again."""
        self._queue.restore(queued)
        self._watch_level(queued, queued.stamp.arrival_s if now_s is None else now_s)
        self.overtaking.entered(queued.lease_id, queued.tenant, queued.stamp)
        if queued.ticket.deadline_s is not None and queued.parked_on is None:
            self._deadlines.push(queued.lease_id, (queued.stamp.arrival_s + queued.ticket.deadline_s,))

    def _watch_level(self, queued: QueuedTicket, since_s: float) -> None:
        """Its level is raised when it has waited for long enough from then on."""
        if queued.stamp.level:
            self._below_best.push(queued.lease_id, (since_s,))

    def take(self, lease_id: str) -> QueuedTicket | None:
        """Takes a ticket out, and its deadline with it; None when it does not wait."""
        self._below_best.discard(lease_id)
        self._deadlines.discard(lease_id)
        self.overtaking.left(lease_id)
        return self._queue.remove(lease_id)

    def grant(self, queued: QueuedTicket) -> QueuedTicket:
        """Takes a ticket out because it runs now. The monitor sees it before the tenants' accounts do."""
        self._below_best.discard(queued.lease_id)
        self._deadlines.discard(queued.lease_id)
        self.overtaking.left(queued.lease_id)
        self.overtaking.started(queued.tenant, queued.stamp, self._queue.turns.tag_s)
        return self._queue.grant(queued)

    def return_ungranted(self, granted: QueuedTicket) -> None:
        """Lets one wait again at its old place that was granted and never sent anywhere."""
        self.enter(self._queue.ungrant(granted))

    def key_now(self, queued: QueuedTicket) -> float:
        """The key that it would run under if it were granted now."""
        if not queued.is_new:
            return self.policy.key(queued.stamp)
        return self.policy.key_with(queued.stamp, self._queue.turns.lead_s(queued.tenant))

    def get(self, lease_id: str) -> QueuedTicket | None:
        return self._queue.get(lease_id)

    def head(self) -> QueuedTicket | None:
        """Who runs next."""
        return self._queue.peek()

    def backlog(self) -> Backlog:
        return self._queue.backlog()

    def drop_owner(self, owner: str) -> None:
        for lease_id in [queued.lease_id for queued in self._queue.unordered() if queued.owner == owner]:
            self.take(lease_id)

    def next_due_s(self) -> float | None:
        """When the next deadline passes."""
        first = self._deadlines.first_position()
        return None if first is None else first[0]

    def take_overdue(self, now_s: float) -> list[Expired]:
        """Takes out those whose deadline has passed, the earliest deadline first."""
        return [self._overdue(lease_id, now_s) for lease_id in self._deadlines.pop_up_to((now_s,))]

    def _overdue(self, lease_id: str, now_s: float) -> Expired:
        queued = self.take(lease_id)
        assert queued is not None and queued.ticket.deadline_s is not None, f"{lease_id}: a deadline, but no wait"
        return Expired.of(queued, DeadlinePassed(queued.ticket.deadline_s, now_s - queued.stamp.arrival_s))
