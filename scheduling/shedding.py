"""Owns who gives way when too much waits. Knows nothing of replicas, owners or clocks."""

from __future__ import annotations

from scheduling.admission import Admission
from scheduling.queue import QueuedTicket, WaitingQueue


def shed_below(newcomer: QueuedTicket, queue: WaitingQueue, admission: Admission) -> list[QueuedTicket] | None:
    """Takes the lowest keys out of the queue until the newcomer may wait, and returns them, the lowest first.

    None when giving way would not be enough, and then everyone keeps their place. Only work below standard priority
    gives way, and only to a higher key.
    """
    victims: list[QueuedTicket] = []
    while not admission.has_room(queue.backlog(), newcomer.ticket.num_tokens):
        lowest = queue.lowest()
        if lowest is None or queue.position(lowest) < queue.position(newcomer):
            for spared in victims:
                queue.restore(spared)
            return None
        queue.remove(lowest.lease_id)
        victims.append(lowest)
    return victims
