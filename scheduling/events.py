"""Owns what is told beside grants: to owners, why there is none; to replicas, what becomes of whom they parked.

Knows nothing of how the news travels.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.errors import DeadlinePassed, NeverFits, QueueFull
from scheduling.queued import QueuedTicket
from scheduling.request import Ticket
from scheduling.score import Stamp


@dataclass(frozen=True, slots=True)
class Expired:
    """A waiting ticket was given up: its deadline passed, or no replica can ever hold it."""

    owner: str
    lease_id: str
    request_id: str
    error: DeadlinePassed | NeverFits
    ticket: Ticket

    @classmethod
    def of(cls, queued: QueuedTicket, error: DeadlinePassed | NeverFits) -> Expired:
        return cls(queued.owner, queued.lease_id, queued.ticket.request_id, error, queued.ticket)


@dataclass(frozen=True, slots=True)
class Shed:
    """A waiting ticket made room for one with a higher key."""

    owner: str
    lease_id: str
    request_id: str
    error: QueueFull
    ticket: Ticket

    @classmethod
    def of(cls, queued: QueuedTicket, error: QueueFull) -> Shed:
        return cls(queued.owner, queued.lease_id, queued.ticket.request_id, error, queued.ticket)


@dataclass(frozen=True, slots=True)
class Resumed:
    """A parked request may run again on its replica, under this stamp: it is next, and there is a slot."""

    replica_id: str
    lease_id: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Moved:
    """A parked request is next, and only another replica has room: its own gives it up, and its owner asks again."""

    replica_id: str
    lease_id: str


Event = Expired | Shed | Resumed | Moved
