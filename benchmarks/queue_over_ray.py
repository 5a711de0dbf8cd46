"""Owns what a grant takes over the wire: the queue as a Ray actor of its own, and those who speak to it. No HTTP, no
engine: whoever holds a lease gives it back at once.

The actor is the queue of the service without what it needs Serve for, which is the list of replicas.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from benchmarks.queue_tickets import QueueLoad, registration, settings, tickets
from deployments.deployment_actors import ActorIdentity
from deployments.queueing.client import QueueClient
from deployments.queueing.lines import RayQueue
from deployments.queueing.messages import Claim, Delivery, QueueMessage, Release
from deployments.queueing.state import QueueState
from deployments.queueing.wall_clock import SteadyWallClock
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.request import Grant, Ticket
from scheduling.score import ScorePolicy

_TICK_S = 0.1
_FILLED_WITHIN_S = 120.0
_MEASURED_WITHIN_S = 3600.0
_HEARTBEAT_S = 1.0
_SETTLING_TURNS = 10  # of all slots
_NEARLY = 0.99  # some are always on their way


@dataclass(frozen=True, slots=True)
class OverRay:
    """took_s: of all grants. handover_s: from the release of each slot, as told, to the grant, as heard, of whoever
    got the next slot there."""

    took_s: float
    handover_s: list[float]


@ray.remote(num_cpus=0, max_restarts=0)
class MeasuredQueue:
    """`submit` and `poll` of `deployments.queueing.actor.PriorityQueue`."""

    def __init__(self) -> None:
        dispatcher = Dispatcher(ScorePolicy(), AdmissionBounds())
        self._state = QueueState(dispatcher, ActorIdentity("queue", time.time()))
        self._clock = SteadyWallClock()
        self._ticking: asyncio.Task[None] | None = None
        self._has_grown = asyncio.Condition()

    async def submit(self, owner: str, messages: Sequence[QueueMessage], num_seen: int) -> Delivery:
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
        delivery = self._state.submit(owner, messages, num_seen, self._clock.now_s())
        async with self._has_grown:
            self._has_grown.notify_all()
        return delivery

    async def poll(self, owner: str, num_seen: int) -> Delivery:
        return await self._state.poll(owner, num_seen)

    async def filled(self, num_waiting: int) -> None:
        """Returns when so many wait."""
        async with self._has_grown:
            await self._has_grown.wait_for(lambda: self._state.dispatcher.num_waiting >= num_waiting)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._state.tick(self._clock.now_s())


async def measure_over_ray(load: QueueLoad, grants_per_s: float | None) -> OverRay:
    """All grants of `load`, while as many wait as it says; Ray must have been started.

    grants_per_s: how often slots are freed, by holding each for a while; None frees them at once.

    Raises:
        TimeoutError: the queue did not fill in time, or the grants did not come.
    """
    hold_s = 0.0 if grants_per_s is None else load.num_replicas * load.num_slots / grants_per_s
    actor = MeasuredQueue.remote()  # type: ignore[attr-defined]
    try:
        return await _Drivers(load, hold_s, actor).measure()
    finally:
        ray.kill(actor)


@dataclass(slots=True)
class _Drivers:
    """The ingresses and replicas of one measurement, and all whom they ask for."""

    load: QueueLoad
    hold_s: float
    actor: Any
    asking: Iterator[Ticket] = field(init=False)
    ingresses: list[QueueClient] = field(init=False)
    replicas: dict[str, QueueClient] = field(init=False)
    freed_s: dict[str, deque[float]] = field(init=False)  # slots of each replica that nobody has been granted since
    handover_s: list[float] = field(default_factory=list)
    rng: random.Random = field(init=False)
    num_unsettled: int = field(init=False)  # grants that still come of how the queue was filled
    is_filled: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.asking = tickets(self.load)
        self.rng = random.Random(self.load.seed)
        self.num_unsettled = _SETTLING_TURNS * self.load.num_replicas * self.load.num_slots
        replica_ids = [f"replica-{number}" for number in range(self.load.num_replicas)]
        self.freed_s = {replica_id: deque() for replica_id in replica_ids}
        self.replicas = {
            replica_id: self._client(replica_id, _registers(self.load, replica_id)) for replica_id in replica_ids
        }
        self.ingresses = [
            self._client(f"ingress-{number}", lambda: [settings(self.load)])
            for number in range(self.load.num_ingresses)
        ]

    def _client(self, owner: str, greeting: Callable[[], list[QueueMessage]]) -> QueueClient:
        async def find() -> RayQueue:
            return RayQueue(self.actor)

        return QueueClient(owner, find, greeting)

    async def measure(self) -> OverRay:
        lines = [asyncio.create_task(client.run()) for client in (*self.replicas.values(), *self.ingresses)]
        lines.append(asyncio.create_task(self._beat()))
        num_asking = self.load.num_waiting + self.load.num_replicas * self.load.num_slots
        asked = [asyncio.create_task(self._ask_on(self.ingresses[n % len(self.ingresses)])) for n in range(num_asking)]
        try:
            async with asyncio.timeout(_FILLED_WITHIN_S):
                await self.actor.filled.remote(int(self.load.num_waiting * _NEARLY))
                self.is_filled = True
                await self.settled.wait()
            began_s = time.perf_counter()
            async with asyncio.timeout(_MEASURED_WITHIN_S):
                await self.enough.wait()
            return OverRay(time.perf_counter() - began_s, self.handover_s)
        finally:
            for task in (*asked, *lines):
                task.cancel()
            await asyncio.gather(*asked, *lines, return_exceptions=True)

    async def _ask_on(self, ingress: QueueClient) -> None:
        while True:
            ticket = next(self.asking)
            await self._hold(ingress, ticket, await ingress.lease(ticket))

    async def _hold(self, ingress: QueueClient, ticket: Ticket, grant: Grant) -> None:
        """What ingress and replica say of a lease while it runs and when it ends."""
        replica, freed_s = self.replicas[grant.replica_id], self.freed_s[grant.replica_id]
        if freed_s:
            self._count(time.perf_counter() - freed_s.popleft())
        replica.mention(Claim(grant.lease_id, grant.replica_id))
        await asyncio.sleep(self.rng.expovariate(1 / self.hold_s) if self.hold_s else 0.0)
        freed_s.append(time.perf_counter())
        replica.tell(Release(grant.lease_id, ticket.num_tokens))
        ingress.mention(Release(grant.lease_id))

    def _count(self, handover_s: float) -> None:
        if not self.is_filled:
            return
        if self.num_unsettled > 0:
            self.num_unsettled -= 1
            return
        self.settled.set()
        self.handover_s.append(handover_s)
        if len(self.handover_s) >= self.load.num_grants:
            self.enough.set()

    async def _beat(self) -> None:
        """The replicas say that they live, and are told to the queue as such."""
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            for replica_id, replica in self.replicas.items():
                replica.mention(registration(self.load, replica_id))


def _registers(load: QueueLoad, replica_id: str) -> Callable[[], list[QueueMessage]]:
    return lambda: [registration(load, replica_id)]
