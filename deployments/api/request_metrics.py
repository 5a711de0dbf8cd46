"""Owns what a request that has ended adds to the metrics. Knows nothing of where they are kept or read."""

from __future__ import annotations

from deployments.api.request_record import RequestRecord
from deployments.telemetry import metric_table as table
from deployments.telemetry.metrics import ServingMetrics
from deployments.user_config import IngressUserConfig

TURNED_AWAY = frozenset({"queue_full", "wait_too_long", "deadline_unmeetable"})


def count_request(metrics: ServingMetrics, record: RequestRecord, settings: IngressUserConfig) -> None:
    """Counts a request that has ended. One that named no model of ours has none to be counted under."""
    if record.model is None or record.standing is None:
        return
    service_class = record.standing.service_class
    labels = (record.model, service_class)
    _count_end(metrics, record, labels)
    if record.ttft_s is not None:
        _count_tokens(metrics, record, labels)
    objectives = settings.classes.get(service_class)
    if objectives is not None and record.met(objectives):
        metrics.record(table.GOODPUT, labels)


def _count_end(metrics: ServingMetrics, record: RequestRecord, labels: tuple[str, str]) -> None:
    metrics.record(table.E2E, labels, record.e2e_s)
    if record.started is not None:
        metrics.record(table.QUEUE_TIME, labels, record.started.queue_s)
    metrics.add(table.FAILOVERS, labels, record.num_failovers)
    for reason in record.finish_reasons:
        metrics.record(table.SUCCESSES, (*labels, reason))
    if record.error_code is not None:
        metrics.record(table.FAILURES, (*labels, record.error_code))
    if record.error_code in TURNED_AWAY:
        metrics.record(table.SHEDS, labels)


def _count_tokens(metrics: ServingMetrics, record: RequestRecord, labels: tuple[str, str]) -> None:
    metrics.record(table.TTFT, labels, record.ttft_s or 0.0)
    metrics.record(table.REQUEST_PROMPT_TOKENS, labels, record.num_prompt_tokens)
    metrics.record(table.REQUEST_OUTPUT_TOKENS, labels, record.num_output_tokens)
    metrics.add(table.PROMPT_TOKENS, labels, record.num_prompt_tokens)
    metrics.add(table.GENERATION_TOKENS, labels, record.num_output_tokens)
    metrics.add(table.CACHED_TOKENS, labels, record.num_cached_tokens)
    if record.tpot_s is not None:
        metrics.record(table.TPOT, labels, record.tpot_s)
    for gap_s in record.gaps_s:
        metrics.record(table.ITL, labels, gap_s)
