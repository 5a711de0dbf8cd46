"""What the ingress can see of the cluster beyond one call: the queues, and whether a request would be accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ray import serve
from ray.exceptions import RayError
from ray.serve.schema import ApplicationStatus

from deployments.errors import ApiError
from deployments.queueing.lines import find_ray_queue
from deployments.telemetry.metrics_reporter import MetricsReporter
from scheduling.snapshot import QueueSnapshot

SNAPSHOT_TIMEOUT_S = 5.0


class ServeClusterView:
    """The cluster behind one application."""

    def __init__(self, app_name: str, model_names: Sequence[str], reporter: MetricsReporter) -> None:
        self._app_name = app_name
        self._reporter = reporter
        self._model_names = tuple(model_names)
        self._has_run = False

    async def queue_snapshots(self) -> dict[str, QueueSnapshot]:
        """Each model's queue; a model whose queue cannot be asked now is left out."""
        snapshots = await asyncio.gather(*(self._snapshot(name) for name in self._model_names))
        return {name: shot for name, shot in zip(self._model_names, snapshots, strict=True) if shot is not None}

    async def why_not_ready(self) -> str | None:
        """None when a request would be accepted. Until the application has once been running, none would."""
        if not self._has_run:
            status = await asyncio.to_thread(self._status)
            if status is not ApplicationStatus.RUNNING:
                return f"application {self._app_name} is {status.value}"
            self._has_run = True
        for name in self._model_names:
            if await find_ray_queue(self._app_name, name) is None:
                return f"the queue of {name} is not up"
        return None

    async def metrics_text(self) -> str:
        """The whole service's metrics, this process's latest included."""
        hub = await self._reporter.report()
        if hub is None:
            raise ApiError(503, "The metrics hub is not up.", type="service_unavailable_error", code="not_ready")
        text: str = await asyncio.wait_for(hub.text.remote(), SNAPSHOT_TIMEOUT_S)
        return text

    async def _snapshot(self, name: str) -> QueueSnapshot | None:
        queue = await find_ray_queue(self._app_name, name)
        if queue is None:
            return None
        try:
            return await asyncio.wait_for(queue.snapshot(), SNAPSHOT_TIMEOUT_S)
        except (RayError, TimeoutError):
            return None

    def _status(self) -> ApplicationStatus:
        application = serve.status().applications.get(self._app_name)
        return ApplicationStatus.NOT_STARTED if application is None else application.status
