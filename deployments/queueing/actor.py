"""The queue of one model as a Ray actor: gives `QueueState` a clock, Serve's membership and a wire. Decides nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import ray
from ray import serve
from ray.serve._private.common import DeploymentID

from cluster.actor_watchdog import watched
from deployments.deployment_actors import QUEUE, ActorIdentity, actor_handles, own_identity
from deployments.queueing.membership import Membership, watch_membership
from deployments.queueing.messages import Delivery, QueueMessage
from deployments.queueing.retirement import retire_older
from deployments.queueing.state import QueueState
from deployments.queueing.vital_task import loud_task, vital_step, vital_task
from deployments.queueing.wall_clock import SteadyWallClock
from deployments.telemetry.metric_snapshot import MetricsSnapshot
from deployments.telemetry.metrics import ServingMetrics
from deployments.telemetry.metrics_reporter import MetricsReporter
from deployments.telemetry.ray_metrics import RaySink
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher, QueueSnapshot
from scheduling.load import LoadMeter
from scheduling.scaling_load import ScalingLoad
from scheduling.score import ScorePolicy

TICK_S = 0.1  # deadlines, unclaimed grants and silent owners are looked at this often; no grant waits for it
T = TypeVar("T")


def first_policy(started_s: float) -> ScorePolicy:
    """The policy of a queue that has not been configured yet.

    Its epoch is the start in ms, above every epoch of the queue before: engines ignore weights of an earlier epoch.
    """
    return ScorePolicy(epoch=int(started_s * 1000))


@ray.remote(num_cpus=0, max_restarts=0, concurrency_groups={"control": 16})  # type: ignore[call-overload]
class PriorityQueue:
    """One per model deployment, owned by Serve's controller; the order is exact because there is only one.

    Routers and replicas call `submit` and `poll`; at most one poll of each is parked here. Control methods run on a
    concurrency group of their own, so that no number of parked polls keeps them out, and hop onto the main loop.
    """

    def __init__(self) -> None:
        identity = own_identity()
        self._state = QueueState(Dispatcher(first_policy(identity.started_s), AdmissionBounds()), identity)
        self._clock = SteadyWallClock()
        self._meter = LoadMeter()
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._watch: Any = None

    async def submit(self, owner: str, messages: Sequence[QueueMessage], num_seen: int) -> Delivery:
        """Take a batch in; returns what is already decided for `owner`."""
        self._ensure_started()
        return self._state.submit(owner, messages, num_seen, self._clock.now_s())

    async def poll(self, owner: str, num_seen: int) -> Delivery:
        """Wait, for a bounded time, until something is decided for `owner`."""
        self._ensure_started()
        return await self._state.poll(owner, num_seen)

    @ray.method(concurrency_group="control")
    async def identity(self) -> ActorIdentity:
        return self._state.identity

    @ray.method(concurrency_group="control")
    async def snapshot(self) -> QueueSnapshot:
        return await self._on_main(self._snapshot())

    @ray.method(concurrency_group="control")
    async def load(self) -> ScalingLoad | None:
        """What the number of replicas is decided from, measured since the last call; None from a retired queue."""
        return await self._on_main(self._load())

    @ray.method(concurrency_group="control")
    async def retire(self) -> None:
        await self._on_main(self._retire())

    async def _snapshot(self) -> QueueSnapshot:
        return self._state.dispatcher.snapshot(self._clock.now_s())

    async def _load(self) -> ScalingLoad | None:
        if self._state.identity.retired:
            return None
        now_s = self._clock.now_s()
        return self._meter.read(self._state.dispatcher.snapshot(now_s), self._state.objectives, now_s)

    async def _retire(self) -> None:
        self._state.retire()

    async def _on_main(self, work: Coroutine[Any, Any, T]) -> T:
        if self._main_loop is None:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._main_loop))

    def _ensure_started(self) -> None:
        """Begins the background work at the first call. Where that fails the call does, and the next one tries again.

        Raises:
            ValueError, ray.exceptions.RayError: Serve's controller cannot be found now.
        """
        if self._main_loop is not None:
            return
        context = serve.get_deployment_actor_context()
        self._model_name = context.deployment
        self._metrics = ServingMetrics(f"queue-{self._state.identity.actor_id}", RaySink())
        reporter = MetricsReporter(context.app_name, self._metrics_now)
        self._watch = watch_membership(
            DeploymentID(name=context.deployment, app_name=context.app_name),
            self._follow,
            client_id=f"{type(self).__name__}:{self._state.identity.actor_id}",
        )
        self._tasks = [
            loud_task(watched(), "the watchdog"),
            vital_task(self._tick_forever()),
            vital_step(self._retire_older(context.app_name, context.deployment)),
            loud_task(reporter.run(), "the queue's metrics"),  # a queue that cannot report is no worse at granting
        ]
        self._main_loop = asyncio.get_running_loop()

    def _follow(self, membership: Membership) -> None:
        self._state.follow(membership.running, self._clock.now_s())

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._state.tick(self._clock.now_s())

    def _metrics_now(self) -> MetricsSnapshot:
        dispatcher = self._state.dispatcher
        self._metrics.observe_queue(self._model_name, dispatcher.num_waiting)
        if math.isfinite(dispatcher.overtaking.smallest_slack_s):
            self._metrics.observe_bound_margin(self._model_name, dispatcher.overtaking.smallest_slack_s)
        return self._metrics.snapshot()

    async def _retire_older(self, app_name: str, deployment_name: str) -> None:
        handles = await asyncio.to_thread(actor_handles, app_name, deployment_name, QUEUE)
        await retire_older(self._state.identity, handles)
