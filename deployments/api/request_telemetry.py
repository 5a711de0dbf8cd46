"""Owns telling the metrics and the log of each request that ended, once. Knows nothing of how it was served."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from deployments.api.request_log import facts_of
from deployments.api.request_metrics import count_request
from deployments.api.request_record import RequestRecord
from deployments.telemetry.metrics import ServingMetrics
from deployments.user_config import IngressUserConfig


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where one ingress's facts go."""

    metrics: ServingMetrics
    log: structlog.typing.FilteringBoundLogger

    def finish(self, record: RequestRecord, settings: IngressUserConfig) -> None:
        """Counts the request and writes its line."""
        count_request(self.metrics, record, settings)
        self.log.info("request", **facts_of(record))

    def report_crash(self, record: RequestRecord, error: Exception) -> None:
        """Our own fault: the traceback goes to the log, under the id that the client was given."""
        self.log.error("request failed", request_id=record.request_id, route=record.route, exc_info=error)
