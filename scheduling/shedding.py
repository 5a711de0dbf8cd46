"""Owns who gives way when too much waits. Knows nothing of replicas, owners or clocks."""

from __future__ import annotations

from scheduling.admission import Admission
from scheduling.queue import QueuedTicket, WaitingQueue


def shed_below(newcomer: QueuedTicket, queue: WaitingQueue, admission: Admission) -> list[QueuedTicket] | None:
    """Takes the lowest keys out of the queue until the rest, the newcomer among them, may wait; returns them.

    None when the newcomer would have to give way itself, and then everyone is where they were. Only work below
    standard priority gives way, and only to a higher key.
    """
    victims: list[QueuedTicket] = []
    while admission.is_exceeded_by(queue.backlog()):
        lowest = queue.lowest()
        if lowest is None or queue.position(lowest) <= queue.position(newcomer):
            for spared in victims:
                queue.restore(spared)
            return None
        queue.remove(lowest.lease_id)
        victims.append(lowest)
    return victims
