"""Keeps the metrics hub told of what this process has counted. Knows nothing of what is counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from deployments.deployment_actors import CLUSTER_ERRORS, METRICS_HUB, find_in_charge
from deployments.telemetry.metric_snapshot import MetricsSnapshot
from deployments.user_config import INGRESS_NAME

logger = logging.getLogger("ray.serve")

REPORT_S = 1.0
REPORT_TIMEOUT_S = 5.0


async def _find_hub(app_name: str) -> Any | None:
    return await asyncio.to_thread(find_in_charge, app_name, INGRESS_NAME, METRICS_HUB)


class MetricsReporter:
    """Pushes snapshots to the hub in charge, again and again, and before each reading.

    find: looks for the application's hub; None while there is none. A hub that has not answered after `timeout_s` is
    looked for again.
    """

    def __init__(
        self,
        app_name: str,
        snapshot: Callable[[], MetricsSnapshot],
        find: Callable[[str], Awaitable[Any | None]] = _find_hub,
        timeout_s: float = REPORT_TIMEOUT_S,
    ) -> None:
        self._app_name = app_name
        self._snapshot = snapshot
        self._find = find
        self._timeout_s = timeout_s
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
                self._hub = await self._find(self._app_name)
            if self._hub is not None:
                await asyncio.wait_for(self._hub.report.remote(self._snapshot()), self._timeout_s)
        except CLUSTER_ERRORS as error:  # a TimeoutError is an OSError
            logger.warning("The metrics hub cannot be told now: %r", error)
            self._hub = None
        return self._hub
