"""Owns what the ingress needs from the cluster around it, as a protocol. Knows nothing of who provides it."""

from __future__ import annotations

from typing import Protocol

from scheduling.snapshot import QueueSnapshot


class ClusterView(Protocol):
    """What one ingress can see beyond itself: `ServeClusterView` on Ray Serve, a fake in tests.

    queue_snapshots: each model's queue; a model whose queue cannot be asked now is left out.
    why_not_ready: None when a request would be accepted now.
    metrics_text: the Prometheus text of the whole service, the same whichever ingress asks.
    """

    async def queue_snapshots(self) -> dict[str, QueueSnapshot]: ...

    async def why_not_ready(self) -> str | None: ...

    async def metrics_text(self) -> str: ...
