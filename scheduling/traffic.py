"""Owns how much has come since a queue began. Knows nothing of rates or of clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduling.queued import QueuedTicket


@dataclass(frozen=True, slots=True, order=True)
class TrafficClass:
    """A service class, or, where it lies on both sides of priority 0, its part on one side."""

    name: str
    is_sheddable: bool

    @classmethod
    def of(cls, service_class: str, priority: float) -> TrafficClass:
        return cls(service_class, priority < 0)


@dataclass(frozen=True, slots=True)
class Volume:
    """Requests and the tokens expected of them: prompt, and output as far as the queue reserves room for it."""

    num_requests: int = 0
    num_tokens: int = 0

    def plus(self, num_tokens: int) -> Volume:
        return Volume(self.num_requests + 1, self.num_tokens + num_tokens)


@dataclass(frozen=True, slots=True)
class Traffic:
    """arrived: accepted for the first time, by class."""

    arrived: Mapping[TrafficClass, Volume] = field(default_factory=dict)


class TrafficCount:
    """Counts up. There are never more classes than the tickets name."""

    def __init__(self) -> None:
        self._arrived: dict[TrafficClass, Volume] = {}

    @property
    def so_far(self) -> Traffic:
        return Traffic(dict(self._arrived))

    def count_arrival(self, queued: QueuedTicket) -> None:
        """Not for one that comes back with the stamp that it has: it was counted before."""
        if queued.ticket.stamp is not None:
            return
        where = TrafficClass.of(queued.ticket.service_class, queued.stamp.priority)
        self._arrived[where] = self._arrived.get(where, Volume()).plus(queued.ticket.need.expected)
