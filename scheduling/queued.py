"""Owns what one entry of the queue is: a ticket with its place, and how much waits. Knows no order."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.request import Ticket
from scheduling.score import Stamp


@dataclass(frozen=True, slots=True)
class QueuedTicket:
    """A stamped ticket, who asked for it, and its number in the order of first arrival at this queue.

    parked_on: the replica that it runs on, where it has given way to others; None if it holds no lease.
    num_charged: tokens that its tenant was charged when it was granted.
    """

    ticket: Ticket
    stamp: Stamp
    owner: str
    seq: int
    parked_on: str | None = None
    num_charged: int = 0

    @property
    def lease_id(self) -> str:
        return self.ticket.lease_id

    @property
    def tenant(self) -> str:
        return self.ticket.tenant

    @property
    def is_new(self) -> bool:
        """It never ran: neither here nor in an earlier attempt."""
        return self.ticket.stamp is None and self.parked_on is None

    @property
    def may_be_shed(self) -> bool:
        """Work below standard priority, unless it ran before: its client may have seen tokens already."""
        return self.stamp.priority < 0 and self.is_new


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits for a lease. `num_tokens` counts prompt and longest output."""

    num_waiting: int
    num_tokens: int

    def without(self, queued: QueuedTicket) -> Backlog:
        """What waits beside one of those who do."""
        return Backlog(self.num_waiting - 1, self.num_tokens - queued.ticket.num_tokens)
