"""Owns who gives way when too much waits, and what they are told. Knows nothing of replicas, leases or clocks."""

from __future__ import annotations

from scheduling.admission import Admission
from scheduling.events import Shed
from scheduling.queued import QueuedTicket
from scheduling.waiting_limits import WaitingLimits
from scheduling.waiting_room import WaitingRoom


def make_room(
    newcomer: QueuedTicket, room: WaitingRoom, admission: Admission, limits: WaitingLimits, now_s: float
) -> list[Shed]:
    """Takes out the lowest keys until the rest, the newcomer among them, may wait; returns who gave way.

    limits: what counts for the newcomer.

    Raises:
        QueueFull: the newcomer would have to give way itself, so it alone was taken out.
    """
    victims = _shed_below(newcomer, room, limits)
    if victims is None:
        room.take(newcomer.lease_id)
        raise admission.refusal(newcomer, room.backlog(), limits, now_s)
    return [Shed.of(victim, admission.refusal(victim, room.backlog(), limits, now_s)) for victim in victims]


def _shed_below(newcomer: QueuedTicket, room: WaitingRoom, limits: WaitingLimits) -> list[QueuedTicket] | None:
    """Those who gave way; None when the newcomer would have to, and then everyone is where they were.

    Only work below standard priority gives way, and only to a higher key. Where more waits than may wait for this
    newcomer, because others may use room that it may not, it makes room for itself and for no more.
    """
    limits = limits.at_least(room.backlog().without(newcomer))
    victims: list[QueuedTicket] = []
    while limits.are_exceeded_by(room.backlog()):
        lowest = room.queue.lowest()
        if lowest is None or room.queue.position(lowest) <= room.queue.position(newcomer):
            for spared in victims:
                room.enter(spared)
            return None
        room.take(lowest.lease_id)
        victims.append(lowest)
    return victims
