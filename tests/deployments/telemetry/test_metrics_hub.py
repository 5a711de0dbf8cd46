"""The sum of all sources: it never falls, whoever comes and goes, and gauges are of those alone who speak."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.telemetry import metrics_hub
from deployments.telemetry.metric_snapshot import MetricsSnapshot
from deployments.telemetry.metric_table import FAILOVERS, TTFT
from deployments.telemetry.metrics import ServingMetrics
from deployments.telemetry.metrics_hub import SOURCE_SILENCE_S, HubState
from engine.protocol import EngineStats

LABELS = ("m", "standard")


@pytest.fixture(autouse=True)
def few_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_hub, "MAX_SOURCES", 3)


def counts_of(source: str, num_failovers: int = 1) -> MetricsSnapshot:
    metrics = ServingMetrics(source)
    metrics.record(FAILOVERS, LABELS, num_failovers)
    metrics.record(TTFT, LABELS, 0.3)
    metrics.observe_engine("m", EngineStats(num_running=2))
    return metrics.snapshot()


def shown(hub: HubState, now_s: float) -> dict[str, float]:
    families = text_string_to_metric_families(hub.text(now_s))
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_a_source_that_fell_silent_keeps_its_counts_and_loses_its_gauges() -> None:
    hub = HubState()
    hub.report(counts_of("a", 1), now_s=0.0)
    hub.report(counts_of("a", 5), now_s=1.0)
    hub.report(counts_of("b"), now_s=1.0)
    assert (shown(hub, 2.0)["fastserve:failovers_total"], shown(hub, 2.0)["vllm:num_requests_running"]) == (6, 4)

    hub.report(counts_of("b"), now_s=2.0 + SOURCE_SILENCE_S)
    later = shown(hub, 2.0 + SOURCE_SILENCE_S)
    assert (later["fastserve:failovers_total"], later["vllm:num_requests_running"]) == (6, 2)


def test_what_replaced_sources_have_counted_counts_when_there_were_more_of_them_than_are_known_by_name() -> None:
    hub, now_s = HubState(), 0.0
    for number in range(10):
        now_s += 2 * SOURCE_SILENCE_S
        hub.report(counts_of(f"replica-{number}"), now_s)
        text = shown(hub, now_s)
        assert text["fastserve:failovers_total"] == text["vllm:time_to_first_token_seconds_count"] == number + 1
        assert text["vllm:num_requests_running"] == 2


def test_a_source_that_speaks_counts_once_where_there_are_too_many() -> None:
    hub = HubState()
    for round_s in range(5):
        for number in range(4):
            hub.report(counts_of(f"replica-{number}"), now_s=round_s + number / 10)
    assert shown(hub, 5.0)["fastserve:failovers_total"] == 3  # as many as may be known
