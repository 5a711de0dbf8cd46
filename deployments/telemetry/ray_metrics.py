"""Owns handing observations to Ray's metrics, which its dashboard and exporter show. Decides nothing."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from deployments.telemetry.metric_table import METRICS, MetricSpec
from deployments.telemetry.metrics import tags_of


class RaySink:
    """Ray's counters, gauges and histograms. Make one only where Ray is initialised: elsewhere they go nowhere."""

    def __init__(self) -> None:
        self._metrics = {spec.name: _made(spec) for spec in METRICS}

    def record(self, spec: MetricSpec, labels: tuple[str, ...], value: float) -> None:
        metric = self._metrics[spec.name]
        tags = dict(tags_of(spec, labels))
        if isinstance(metric, Histogram):
            metric.observe(value, tags)
        elif isinstance(metric, Counter):
            metric.inc(value, tags)
        else:
            metric.set(value, tags)


def _made(spec: MetricSpec) -> Counter | Gauge | Histogram:
    if spec.kind == "histogram":
        return Histogram(spec.ray_name, spec.help, boundaries=list(spec.buckets), tag_keys=spec.labels)
    kind = Counter if spec.kind == "counter" else Gauge
    return kind(spec.ray_name, spec.help, tag_keys=spec.labels)
