"""Owns the twin's use of the dispatcher: requests in, decisions out. Knows nothing of engines, clients or latencies.

All use of `scheduling.dispatcher` is here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import SchedulingError
from scheduling.events import Moved, Resumed
from scheduling.overtaking import OvertakingMonitor
from scheduling.replicas import ReplicaState
from scheduling.request import Grant, Ticket
from scheduling.score import ScorePolicy
from scheduling.snapshot import QueueSnapshot

_OWNER = "ingress"  # one is enough: it never goes away


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A request that waits no more and was not granted anything."""

    lease_id: str
    error: SchedulingError


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the queue has to say at one moment: to ingresses first, then to replicas of whom they parked."""

    granted: list[Grant]
    given_up: list[GivenUp] = field(default_factory=list)
    resumed: list[Resumed] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)


class QueueSide:
    """The model's queue, as its ingress and its replicas use it."""

    def __init__(self, policy: ScorePolicy, bounds: AdmissionBounds, tenant_weights: Mapping[str, float]) -> None:
        # Here every grant reaches its replica, so that none has to be claimed, or falls due.
        self._dispatcher = Dispatcher(policy, bounds, claim_timeout_s=math.inf)
        self._dispatcher.reconfigure(policy, bounds, tenant_weights)

    @property
    def num_waiting(self) -> int:
        return self._dispatcher.num_waiting

    @property
    def overtaking(self) -> OvertakingMonitor:
        return self._dispatcher.overtaking

    def add_replica(self, state: ReplicaState) -> None:
        self._dispatcher.register_replica(state)

    def remove_replica(self, replica_id: str) -> None:
        """It is given nothing any more, and finishes what it has; those who gave way there have to move."""
        self._dispatcher.remove_replica(replica_id)

    def observe_service(self, replica_id: str, num_served: int, now_s: float) -> None:
        """The replica has computed so many tokens since its start."""
        self._dispatcher.observe_service(replica_id, num_served, now_s)

    def snapshot(self, now_s: float) -> QueueSnapshot:
        return self._dispatcher.snapshot(now_s)

    def ask(self, ticket: Ticket, now_s: float) -> GivenUp | None:
        """Lets the request wait, unless it is refused."""
        try:
            self._dispatcher.enqueue(ticket, _OWNER, now_s)
        except SchedulingError as error:
            return GivenUp(ticket.lease_id, error)
        return None

    def parked(self, lease_id: str, replica_id: str) -> None:
        """The replica let the request give way to another."""
        self._dispatcher.park(lease_id, replica_id)

    def fallen(self, lease_id: str, level: int) -> None:
        """The replica let it fall to this level."""
        self._dispatcher.restamp(lease_id, level)

    def end(self, lease_id: str, num_served: int) -> None:
        """The replica has done with it; it computed so many tokens for it."""
        self._dispatcher.release(lease_id, num_served)

    def decide(self, now_s: float) -> Decisions:
        """What is decided by now, deadlines included."""
        decisions = Decisions([grant for _, grant in self._dispatcher.dispatch(now_s)])
        for event in self._dispatcher.drain_events():
            match event:
                case Resumed():
                    decisions.resumed.append(event)
                case Moved():
                    decisions.moved.append(event)
                case _:
                    decisions.given_up.append(GivenUp(event.lease_id, event.error))
        return decisions

    def next_due_s(self) -> float | None:
        """When `decide` will have something to say though nothing happens before."""
        return self._dispatcher.next_due_s()
