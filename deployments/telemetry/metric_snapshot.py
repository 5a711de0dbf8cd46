"""Owns metrics on their way between processes: a snapshot of one source, and the sum of many as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from deployments.telemetry.metric_table import METRICS, Merge, MetricSpec

SampleKey = tuple[str, tuple[tuple[str, str], ...]]

_MERGES: Mapping[Merge, Callable[[list[float]], float]] = {"sum": sum, "mean": fmean, "min": min}


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """All samples of one source since its start, by metric name, then by sample name and labels."""

    source_id: str
    samples: Mapping[str, Mapping[SampleKey, float]]

    def retired(self) -> MetricsSnapshot:
        """What still counts when the source is gone: its counters and histograms, not its gauges."""
        gauges = {spec.name for spec in METRICS if spec.kind == "gauge"}
        kept = {name: samples for name, samples in self.samples.items() if name not in gauges}
        return MetricsSnapshot(self.source_id, kept)

    def with_added(self, other: MetricsSnapshot) -> MetricsSnapshot:
        """Both counts as one, under the id of this one; neither has gauges."""
        samples = {name: dict(found) for name, found in self.samples.items()}
        for name, found in other.samples.items():
            sums = samples.setdefault(name, {})
            for key, value in found.items():
                sums[key] = sums.get(key, 0.0) + value
        return MetricsSnapshot(self.source_id, samples)


def snapshot_of(source_id: str, registry: CollectorRegistry) -> MetricsSnapshot:
    """The registry's samples. Creation times are left out: they do not add up."""
    return MetricsSnapshot(source_id, {metric.name: _samples(metric) for metric in registry.collect()})


def merge(snapshots: Iterable[MetricsSnapshot]) -> str:
    """The Prometheus text of all sources together. Two snapshots of one source count once, the later one."""
    latest = {snapshot.source_id: snapshot for snapshot in snapshots}
    return generate_latest(_Merged(list(latest.values()))).decode()


class _Merged(Collector):
    def __init__(self, snapshots: list[MetricsSnapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        for spec in METRICS:
            yield self._metric(spec)

    def _metric(self, spec: MetricSpec) -> Metric:
        metric = Metric(spec.name, spec.help, spec.kind)
        values: dict[SampleKey, list[float]] = {}
        for snapshot in self._snapshots:
            for key, value in snapshot.samples.get(spec.name, {}).items():
                values.setdefault(key, []).append(value)
        for (name, labels), found in values.items():
            metric.add_sample(name, dict(labels), _MERGES[spec.merge](found))
        return metric


def _samples(metric: Metric) -> dict[SampleKey, float]:
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }
