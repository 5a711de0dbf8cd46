"""Owns recording metrics in one process: into a registry of its own and, where Ray runs, into Ray's as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from deployments.telemetry import metric_table as table
from deployments.telemetry.metric_snapshot import MetricsSnapshot, snapshot_of
from deployments.telemetry.metric_table import METRICS, MetricSpec
from engine.protocol import EngineStats

#: Which of an engine's counters each metric follows.
_ENGINE_COUNTERS: tuple[tuple[MetricSpec, Callable[[EngineStats], int]], ...] = (
    (table.PREEMPTIONS, lambda stats: stats.num_preemptions),
    (table.PREEMPTIONS_BY_SWAP, lambda stats: stats.num_preemptions_by_swap),
    (table.PREEMPTIONS_BY_RECOMPUTE, lambda stats: stats.num_preemptions_by_recompute),
    (table.RECOMPUTED_TOKENS, lambda stats: stats.num_recomputed_tokens),
    (table.BLOCKS_SWAPPED_OUT, lambda stats: stats.num_blocks_swapped_out),
    (table.BLOCKS_SWAPPED_IN, lambda stats: stats.num_blocks_swapped_in),
    (table.STEPS, lambda stats: stats.num_steps),
)


class MetricSink(Protocol):
    """Where observations go: a registry, or Ray. `labels` are the metric's own, in the order of its spec."""

    def record(self, spec: MetricSpec, labels: tuple[str, ...], value: float) -> None: ...


class RegistrySink:
    """prometheus_client, in a registry that no other code writes to."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._metrics = {spec.name: self._made(spec) for spec in METRICS}

    def record(self, spec: MetricSpec, labels: tuple[str, ...], value: float) -> None:
        child = self._metrics[spec.name].labels(*labels)
        if isinstance(child, Histogram):
            child.observe(value)
        elif isinstance(child, Counter):
            child.inc(value)
        else:
            child.set(value)

    def _made(self, spec: MetricSpec) -> Counter | Gauge | Histogram:
        if spec.kind == "histogram":
            return Histogram(spec.name, spec.help, spec.labels, buckets=spec.buckets, registry=self.registry)
        kind = Counter if spec.kind == "counter" else Gauge
        return kind(spec.name, spec.help, spec.labels, registry=self.registry)


class ServingMetrics:
    """What an ingress or a replica has seen since it started. source_id: unique among all of them, for merging."""

    def __init__(self, source_id: str, *more: MetricSink) -> None:
        self.source_id = source_id
        self._own = RegistrySink()
        self._sinks: tuple[MetricSink, ...] = (self._own, *more)
        self._last_stats: dict[str, EngineStats] = {}

    def snapshot(self) -> MetricsSnapshot:
        """Everything so far: cumulative, picklable."""
        return snapshot_of(self.source_id, self._own.registry)

    def record(self, spec: MetricSpec, labels: tuple[str, ...], value: float = 1.0) -> None:
        """One observation, in every sink. `labels` are the metric's own, in the order of its spec."""
        for sink in self._sinks:
            sink.record(spec, labels, value)

    def add(self, spec: MetricSpec, labels: tuple[str, ...], gained: int) -> None:
        """What a counter gained; nothing gained makes no sample."""
        if gained > 0:
            self.record(spec, labels, gained)

    def observe_engine(self, model: str, stats: EngineStats) -> None:
        """Takes over an engine's gauges, and what its counters have gained since the last call."""
        labels = (model,)
        self.record(table.RUNNING, labels, stats.num_running)
        self.record(table.WAITING, labels, stats.num_waiting + stats.num_parked)
        self.record(table.KV_USAGE, labels, stats.kv_blocks_used / max(1, stats.kv_blocks_total))
        last = self._last_stats.get(model, EngineStats())
        self._last_stats[model] = stats
        for spec, count in _ENGINE_COUNTERS:
            self.add(spec, labels, count(stats) - count(last))

    def observe_queue(self, model: str, num_waiting: int) -> None:
        """The length of a model's queue, from the queue itself; each engine adds those that wait in it."""
        self.record(table.WAITING, (model,), num_waiting)

    def observe_bound_margin(self, model: str, margin_s: float) -> None:
        self.record(table.BOUND_MARGIN, (model,), margin_s)


def tags_of(spec: MetricSpec, labels: tuple[str, ...]) -> Mapping[str, str]:
    """The labels by name."""
    return dict(zip(spec.labels, labels, strict=True))
