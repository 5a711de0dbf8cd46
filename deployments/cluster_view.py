"""What the ingress can see of the cluster beyond one call: the queues, and whether a request would be accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ray import serve
from ray.serve.schema import ApplicationStatus

from deployments.deployment_actors import CLUSTER_ERRORS
from deployments.errors import ApiError
from deployments.queueing.lines import RayQueue, find_ray_queue
from deployments.queueing.membership import Membership
from deployments.telemetry.metrics_reporter import MetricsReporter
from scheduling.snapshot import QueueSnapshot

ANSWER_TIMEOUT_S = 5.0


def application_status(app_name: str) -> ApplicationStatus:
    """What Serve's controller says of the application. Blocks."""
    application = serve.status().applications.get(app_name)
    return ApplicationStatus.NOT_STARTED if application is None else application.status


class ServeClusterView:
    """The cluster behind one application. Where the cluster cannot be asked, that is the answer, and no exception.

    find_queue: the queue in charge of a model of an application. status: blocks, so it is asked in a thread.
    """

    def __init__(
        self,
        app_name: str,
        model_names: Sequence[str],
        reporter: MetricsReporter,
        find_queue: Callable[[str, str], Awaitable[RayQueue | None]] = find_ray_queue,
        status: Callable[[str], ApplicationStatus] = application_status,
    ) -> None:
        self._app_name = app_name
        self._reporter = reporter
        self._model_names = tuple(model_names)
        self._find_queue = find_queue
        self._status = status
        self._has_run = False
        self._hopeless: set[str] = set()
        self._look: asyncio.Task[str | None] | None = None

    def follow(self, model_name: str, membership: Membership) -> None:
        """What Serve says of a model now."""
        if membership.can_serve:
            self._hopeless.discard(model_name)
        else:
            self._hopeless.add(model_name)

    async def queue_snapshots(self) -> dict[str, QueueSnapshot]:
        """Each model's queue; a model whose queue cannot be asked now is left out."""
        snapshots = await asyncio.gather(*(self._snapshot(name) for name in self._model_names))
        return {name: shot for name, shot in zip(self._model_names, snapshots, strict=True) if shot is not None}

    async def why_not_ready(self) -> str | None:
        """None when a request for any model would be accepted: never before the application has once been running.

        Whoever asks while another's look at the cluster is under way shares it: anybody may ask, as often as they like,
        and each look costs the cluster several calls.
        """
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._looked())
        return await asyncio.shield(self._look)

    async def metrics_text(self) -> str:
        """The whole service's metrics, this process's latest included.

        Raises:
            ApiError: 503, the hub cannot be asked now.
        """
        hub = await self._reporter.report()
        if hub is None:
            raise _no_hub("The metrics hub is not up.")
        try:
            text: str = await asyncio.wait_for(hub.text.remote(), ANSWER_TIMEOUT_S)
        except CLUSTER_ERRORS as error:
            raise _no_hub(f"The metrics hub does not answer ({type(error).__name__}).") from error
        return text

    async def _looked(self) -> str | None:
        try:
            return await self._missing()
        except CLUSTER_ERRORS as error:
            return f"the cluster cannot be asked now ({type(error).__name__})"

    async def _missing(self) -> str | None:
        if not self._has_run:
            status = await asyncio.to_thread(self._status, self._app_name)
            if status is not ApplicationStatus.RUNNING:
                return f"application {self._app_name} is {status.value}"
            self._has_run = True
        for name in self._model_names:
            if name in self._hopeless:
                return f"{name} failed to deploy, and no replica of it runs"
            if await self._find_queue(self._app_name, name) is None:
                return f"the queue of {name} is not up"
        return None

    async def _snapshot(self, name: str) -> QueueSnapshot | None:
        try:
            queue = await self._find_queue(self._app_name, name)
            return None if queue is None else await asyncio.wait_for(queue.snapshot(), ANSWER_TIMEOUT_S)
        except CLUSTER_ERRORS:
            return None


def _no_hub(message: str) -> ApiError:
    return ApiError(503, message, type="service_unavailable_error", code="not_ready", retry_after_s=1.0)
