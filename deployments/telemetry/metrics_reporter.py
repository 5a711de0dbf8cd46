"""Keeps the metrics hub told of what this process has counted. Knows nothing of what is counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayError

from deployments.config import INGRESS_NAME
from deployments.deployment_actors import METRICS_HUB, find_in_charge
from deployments.telemetry.metric_snapshot import MetricsSnapshot

logger = logging.getLogger("ray.serve")

REPORT_S = 1.0


class MetricsReporter:
    """Pushes snapshots to the hub in charge, again and again, and before each reading."""

    def __init__(self, app_name: str, snapshot: Callable[[], MetricsSnapshot]) -> None:
        self._app_name = app_name
        self._snapshot = snapshot
        self._hub: Any | None = None

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self.report()
            await asyncio.sleep(REPORT_S)

    async def report(self) -> Any | None:
        """Tell the hub everything so far; returns the hub, or None when there is none now."""
        try:
            if self._hub is None:
                self._hub = await asyncio.to_thread(find_in_charge, self._app_name, INGRESS_NAME, METRICS_HUB)
            if self._hub is not None:
                await self._hub.report.remote(self._snapshot())
        except RayError as error:
            logger.warning("The metrics hub cannot be told now: %s", error)
            self._hub = None
        return self._hub
