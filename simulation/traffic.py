"""Owns who asks when: whatever happens, or after the last answer. Knows nothing of queues or engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from simulation.workload import Arrival, ClosedLoop, Turn


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a client; of nobody in particular where nothing comes of its end."""

    arrival: Arrival
    client: int | None = None


class Traffic(Protocol):
    """What the twin asks for the next request. duration_s: how long the load lasts; None where it is not known."""

    @property
    def duration_s(self) -> float | None: ...

    def first(self) -> Iterator[Asked]:
        """Those that come whatever happens, in order of time."""
        ...

    def next_of(self, client: int, ended_s: float) -> Asked | None:
        """What the client asks now that its last request has ended, if anything."""
        ...


class OpenLoop:
    """Requests at times of their own."""

    def __init__(self, arrivals: Iterable[Arrival], duration_s: float | None = None) -> None:
        self._arrivals = arrivals
        self._duration_s = duration_s

    @property
    def duration_s(self) -> float | None:
        return self._duration_s

    def first(self) -> Iterator[Asked]:
        return (Asked(arrival) for arrival in self._arrivals)

    def next_of(self, client: int, ended_s: float) -> Asked | None:
        raise AssertionError(f"client {client}: nobody waits for answers in an open loop")


class ClosedClients:
    """Clients that each ask again after they were answered, until `duration_s`."""

    def __init__(self, loop: ClosedLoop, seed: int, duration_s: float) -> None:
        self._turns = [loop.turns(client, seed) for client in range(loop.num_clients)]
        self._duration_s = duration_s

    @property
    def duration_s(self) -> float:
        return self._duration_s

    def first(self) -> Iterator[Asked]:
        asked = [Asked(next(turns).asked(0.0), client) for client, turns in enumerate(self._turns)]
        return iter(sorted(asked, key=lambda each: each.arrival.at_s))

    def next_of(self, client: int, ended_s: float) -> Asked | None:
        turn: Turn = next(self._turns[client])
        arrival = turn.asked(ended_s)
        return Asked(arrival, client) if arrival.at_s < self._duration_s else None
