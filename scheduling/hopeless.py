"""Owns which tickets cannot be served, whatever comes, and says why. Knows nothing of the order or of who waits."""

from __future__ import annotations

from scheduling.errors import DeadlinePassed, DeadlineUnmeetable, NeverFits
from scheduling.fleet import Fleet
from scheduling.queued import QueuedTicket


def never_fits(queued: QueuedTicket, fleet: Fleet) -> NeverFits | None:
    """Why no registered replica can ever hold the ticket; None when one can, or when there is none yet."""
    largest = fleet.max_request_tokens()
    needed = queued.ticket.num_tokens
    return NeverFits(needed, largest) if largest is not None and needed > largest else None


def too_late(queued: QueuedTicket, now_s: float) -> DeadlinePassed | DeadlineUnmeetable | None:
    """Why the ticket cannot start by its deadline, even now."""
    deadline_s = queued.ticket.deadline_s
    waited_s = now_s - queued.stamp.arrival_s
    if deadline_s is None or waited_s < deadline_s:
        return None
    return DeadlinePassed(deadline_s, waited_s) if waited_s > 0 else DeadlineUnmeetable(deadline_s, 0.0, 1.0)
