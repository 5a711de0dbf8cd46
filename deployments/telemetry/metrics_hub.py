"""Adds up the metrics of all ingresses and replicas, so that `/metrics` says the same whichever ingress answers.

Sources push cumulative snapshots: one that is lost or comes twice does no harm, and a hub that restarts is told all
that living sources have counted.
"""

from __future__ import annotations

import time

import ray

from deployments.deployment_actors import ActorIdentity, own_identity
from deployments.telemetry.metric_snapshot import MetricsSnapshot, merge

SOURCE_SILENCE_S = 10.0
MAX_SOURCES = 1000


class HubState:
    """The latest snapshot of each source. A source that fell silent keeps its counters and loses its gauges.

    Where there are too many, the one that has been silent for longest is known by name no more; what it counted still
    counts, for a sum that falls reads as one that has begun anew.
    """

    def __init__(self) -> None:
        self._snapshots: dict[str, MetricsSnapshot] = {}
        self._heard_s: dict[str, float] = {}
        self._gone = MetricsSnapshot("gone", {})

    def report(self, snapshot: MetricsSnapshot, now_s: float) -> None:
        """Takes a source's snapshot in place of its last one."""
        self._snapshots[snapshot.source_id] = snapshot
        self._heard_s[snapshot.source_id] = now_s
        while len(self._snapshots) > MAX_SOURCES:
            quietest = min(self._heard_s, key=lambda source: self._heard_s[source])
            gone, heard_s = self._snapshots.pop(quietest), self._heard_s.pop(quietest)
            if now_s - heard_s > SOURCE_SILENCE_S:  # one that speaks still will say it all again
                self._gone = self._gone.with_added(gone.retired())

    def text(self, now_s: float) -> str:
        """The Prometheus text of all sources together."""
        known = (
            snapshot.retired() if now_s - self._heard_s[source] > SOURCE_SILENCE_S else snapshot
            for source, snapshot in self._snapshots.items()
        )
        return merge([self._gone, *known])


@ray.remote(num_cpus=0, max_restarts=0)
class MetricsHub:
    """The hub as an actor of the ingress deployment."""

    def __init__(self) -> None:
        self._state = HubState()
        self._identity = own_identity()

    async def identity(self) -> ActorIdentity:
        return self._identity

    async def report(self, snapshot: MetricsSnapshot) -> None:
        self._state.report(snapshot, time.monotonic())

    async def text(self) -> str:
        return self._state.text(time.monotonic())
