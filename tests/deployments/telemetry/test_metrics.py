"""Metrics: what is counted, under which names, and that several sources add up to one text."""

from __future__ import annotations

import pickle
from dataclasses import fields

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.errors import ReplicaFailed
from deployments.telemetry.metric_snapshot import merge
from deployments.telemetry.metric_table import METRICS, TTFT, MetricSpec
from deployments.telemetry.metrics import ServingMetrics
from deployments.user_config import parse_user_config
from engine.protocol import EngineStats
from scheduling.errors import QueueFull
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import serving


def _sample(text: str, name: str, **labels: str) -> float | None:
    """The value of one sample of a Prometheus text; None where there is no such sample."""
    wanted = {("class" if key == "class_" else key): value for key, value in labels.items()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and wanted.items() <= sample.labels.items():
                return float(sample.value)
    return None


async def test_a_finished_request_is_counted_under_the_names_of_the_public_dashboards() -> None:
    async with serving(FakeHandle(num_cached_tokens=1)) as service:
        await service.chat(n=2, priority=6)
        response = await service.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    text = response.text
    of_class = {"model_name": "fake", "class_": "urgent"}
    for histogram, count in [
        ("vllm:time_to_first_token_seconds", 1),
        ("vllm:e2e_request_latency_seconds", 1),
        ("vllm:request_queue_time_seconds", 1),
        ("vllm:request_time_per_output_token_seconds", 1),
        ("vllm:inter_token_latency_seconds", 12),
    ]:
        assert _sample(text, f"{histogram}_count", **of_class) == count, histogram
    assert _sample(text, "vllm:request_queue_time_seconds_sum", **of_class) == 0.25
    assert _sample(text, "vllm:prompt_tokens_total", **of_class) == 2
    assert _sample(text, "vllm:generation_tokens_total", **of_class) == 14
    assert _sample(text, "vllm:prompt_tokens_cached_total", **of_class) == 1
    assert _sample(text, "vllm:request_success_total", finished_reason="stop", **of_class) == 2
    assert _sample(text, "fastserve:request_goodput_total", **of_class) == 1


async def test_a_refusal_counts_as_shed_and_never_as_success() -> None:
    async with serving(FakeHandle(error=QueueFull(5, 5, 1.0))) as service:
        await service.chat()
        text = (await service.client.get("/metrics")).text
    of_class = {"model_name": "fake", "class_": "standard"}
    assert _sample(text, "fastserve:request_sheds_total", **of_class) == 1
    assert _sample(text, "fastserve:request_failure_total", code="queue_full", **of_class) == 1
    assert _sample(text, "vllm:request_success_total", **of_class) is None
    assert _sample(text, "vllm:time_to_first_token_seconds_count", **of_class) is None


async def test_an_answer_that_misses_an_objective_is_no_goodput() -> None:
    impossible = parse_user_config({"classes": {"all": {"min_priority": -100, "ttft_s": 1e-9, "tpot_s": 1}}})
    async with serving(settings=impossible) as service:
        await service.chat()
        text = (await service.client.get("/metrics")).text
    assert _sample(text, "vllm:request_success_total", class_="all") == 1
    assert _sample(text, "fastserve:request_goodput_total", class_="all") is None


async def test_an_unknown_model_makes_no_new_label() -> None:
    async with serving() as service:
        await service.chat(model="made-up")
        text = (await service.client.get("/metrics")).text
    assert "made-up" not in text


def _stats(**fields: int) -> EngineStats:
    return EngineStats(**{"kv_blocks_total": 100, **fields})


def test_engine_gauges_are_set_and_its_counters_grow_by_what_is_new() -> None:
    metrics = ServingMetrics("replica-1")
    metrics.observe_engine("m", _stats(num_running=3, num_waiting=1, num_parked=1, num_preemptions=2, num_steps=5))
    metrics.observe_engine("m", _stats(num_running=1, kv_blocks_used=25, num_preemptions=3, num_steps=5))
    text = merge([metrics.snapshot()])
    assert _sample(text, "vllm:num_requests_running", model_name="m") == 1
    assert _sample(text, "vllm:num_requests_waiting", model_name="m") == 0
    assert _sample(text, "vllm:kv_cache_usage_perc", model_name="m") == 0.25
    assert _sample(text, "vllm:num_preemptions_total", model_name="m") == 3
    assert _sample(text, "fastserve:engine_steps_total", model_name="m") == 5


def test_preemptions_are_counted_by_how_the_blocks_were_taken_away() -> None:
    metrics = ServingMetrics("replica-1")
    metrics.observe_engine("m", _stats(num_preemptions_by_swap=2, num_blocks_swapped_out=9, num_blocks_swapped_in=7))
    metrics.observe_engine(
        "m",
        _stats(
            num_preemptions_by_swap=3,
            num_preemptions_by_recompute=1,
            num_recomputed_tokens=40,
            num_blocks_swapped_out=12,
            num_blocks_swapped_in=11,
        ),
    )
    text = merge([metrics.snapshot()])
    assert _sample(text, "fastserve:preemptions_by_swap_total", model_name="m") == 3
    assert _sample(text, "fastserve:preemptions_by_recompute_total", model_name="m") == 1
    assert _sample(text, "fastserve:recomputed_tokens_total", model_name="m") == 40
    assert _sample(text, "fastserve:kv_blocks_swapped_out_total", model_name="m") == 12
    assert _sample(text, "fastserve:kv_blocks_swapped_in_total", model_name="m") == 11


def test_sources_add_up_whatever_their_order_and_each_counts_once() -> None:
    first, second = ServingMetrics("replica-1"), ServingMetrics("replica-2")
    first.observe_engine("m", _stats(num_running=3, kv_blocks_used=50, num_steps=10))
    second.observe_engine("m", _stats(num_running=2, kv_blocks_used=0, num_steps=1))
    first.observe_bound_margin("m", 4.0)
    second.observe_bound_margin("m", 1.5)
    early = first.snapshot()
    shots = [early, pickle.loads(pickle.dumps(second.snapshot())), first.snapshot()]
    text = merge(shots)
    assert _sample(text, "vllm:num_requests_running") == 5
    assert _sample(text, "vllm:kv_cache_usage_perc") == 0.25
    assert _sample(text, "fastserve:engine_steps_total") == 11
    assert _sample(text, "fastserve:overtaking_bound_margin_seconds") == 1.5
    assert sorted(merge(shots[1:]).splitlines()) == sorted(merge(shots[:0:-1]).splitlines())


async def test_histograms_of_two_ingresses_add_up_bucket_by_bucket() -> None:
    async with serving() as one, serving() as other:
        await one.chat()
        await other.chat()
        other.metrics.source_id = "ingress-2"
        text = merge([one.metrics.snapshot(), other.metrics.snapshot()])
    assert _sample(text, "vllm:time_to_first_token_seconds_count") == 2
    assert _sample(text, "vllm:time_to_first_token_seconds_bucket", le="+Inf") == 2


def test_a_source_that_is_gone_keeps_its_counts_and_loses_its_gauges() -> None:
    metrics = ServingMetrics("replica-1")
    metrics.observe_engine("m", _stats(num_running=3, num_steps=10))
    text = merge([metrics.snapshot().retired()])
    assert _sample(text, "vllm:num_requests_running") is None
    assert _sample(text, "fastserve:engine_steps_total") == 10


class _Collecting:
    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[str, ...], float]] = []

    def record(self, spec: MetricSpec, labels: tuple[str, ...], value: float) -> None:
        self.seen.append((spec.ray_name, labels, value))


def test_every_observation_goes_to_every_sink() -> None:
    sink = _Collecting()
    ServingMetrics("x", sink).observe_engine("m", _stats(num_running=3))
    assert ("vllm_num_requests_running", ("m",), 3) in sink.seen


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_names_are_ones_that_ray_takes_and_labels_begin_with_the_model(spec: MetricSpec) -> None:
    assert spec.ray_name.isidentifier()
    assert spec.labels[0] == "model_name"
    assert (spec.kind == "histogram") == bool(spec.buckets)
    assert not spec.name.endswith("_total")


def test_the_time_to_the_first_token_is_labelled_by_class() -> None:
    assert TTFT.labels == ("model_name", "class")


def test_who_waits_is_the_queues_waiters_and_every_engines() -> None:
    queue, first, second = (ServingMetrics(source) for source in ("queue-1", "replica-1", "replica-2"))
    queue.observe_queue("m", 40)
    queue.observe_queue("other", 7)
    first.observe_engine("m", _stats(num_running=2, num_waiting=3, num_parked=1, kv_blocks_used=50))
    second.observe_engine("m", _stats(num_waiting=2))

    text = merge([source.snapshot() for source in (queue, first, second)])

    assert _sample(text, "vllm:num_requests_waiting", model_name="m") == 46
    assert _sample(text, "vllm:num_requests_waiting", model_name="other") == 7
    assert _sample(text, "vllm:num_requests_running", model_name="m") == 2
    assert _sample(text, "vllm:kv_cache_usage_perc", model_name="m") == 0.25


async def test_every_metric_that_is_shown_is_counted_somewhere() -> None:
    async with serving(FakeHandle(num_cached_tokens=1)) as service:
        await service.chat()
    async with serving(FakeHandle(error=QueueFull(5, 5, 1.0))) as refusing:
        await refusing.chat()
    died = ReplicaFailed("replica-1", "it died")
    async with serving(FakeHandle(fails_after=0, failure=died, num_failing_calls=1)) as failing:
        await failing.chat()
    others = ServingMetrics("others")
    others.observe_engine("m", EngineStats(**{field.name: 1 for field in fields(EngineStats)}))
    others.observe_bound_margin("m", 1.0)
    shots = [each.metrics.snapshot() for each in (service, refusing, failing)] + [others.snapshot()]
    counted = {name for shot in shots for name, samples in shot.samples.items() if samples}
    assert {spec.name for spec in METRICS} == counted
