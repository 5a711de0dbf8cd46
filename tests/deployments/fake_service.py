"""The whole HTTP face around models in memory: one object with a client, a log and metrics to look at."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI

from deployments.api.grammar_check import GrammarCheck
from deployments.api.ingress import create_api
from deployments.api.preprocess import Preprocessor
from deployments.api.scored_pool import ScoredPool
from deployments.telemetry.json_log import make_logger
from deployments.telemetry.metric_snapshot import merge
from deployments.telemetry.metrics import ServingMetrics
from deployments.user_config import IngressUserConfig
from scheduling.score import ScorePolicy
from scheduling.snapshot import QueueSnapshot
from tests.deployments.fake_model import FakeHandle, fake_service


@dataclass
class FakeCluster:
    """What the ingress sees of a cluster that is not there."""

    metrics: ServingMetrics
    not_ready: str | None = None
    queues: dict[str, QueueSnapshot] = field(default_factory=dict)

    async def queue_snapshots(self) -> dict[str, QueueSnapshot]:
        return self.queues

    async def why_not_ready(self) -> str | None:
        return self.not_ready

    async def metrics_text(self) -> str:
        return merge([self.metrics.snapshot()])


class Service:
    """`settings` may be replaced while it runs, and `ask_settings` be asked for them instead."""

    def __init__(self, *handles: FakeHandle, settings: IngressUserConfig | None = None) -> None:
        self.handles = handles or (FakeHandle(),)
        self.settings = settings or IngressUserConfig()
        self.ask_settings: Callable[[], IngressUserConfig] = lambda: self.settings
        self.metrics = ServingMetrics("ingress-1")
        self.cluster = FakeCluster(self.metrics)
        self.pool = ScoredPool(num_threads=1, max_pending=64)
        self._log = io.StringIO()
        self.api = self._make_api()
        transport = httpx.ASGITransport(app=self.api, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://service")

    @property
    def handle(self) -> FakeHandle:
        return self.handles[0]

    @property
    def raw_log(self) -> str:
        return self._log.getvalue()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.getvalue().splitlines()]

    async def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, json=body, headers=named)

    async def chat(self, **fields: object) -> httpx.Response:
        return await self.post("/v1/chat/completions", chat_body(**fields))

    async def complete(self, **fields: object) -> httpx.Response:
        return await self.post("/v1/completions", {"model": "fake", "prompt": "Hi", **fields})

    def _make_api(self) -> FastAPI:
        models = {handle.name: fake_service(handle) for handle in self.handles}
        log = make_logger(self._log)
        return create_api(
            models,
            lambda: self.ask_settings(),
            self.metrics,
            log,
            self.cluster,
            Preprocessor(self.pool),
            GrammarCheck(self.pool),
        )


@asynccontextmanager
async def serving(*handles: FakeHandle, settings: IngressUserConfig | None = None) -> AsyncIterator[Service]:
    service = Service(*handles, settings=settings)
    try:
        yield service
    finally:
        await service.client.aclose()
        service.pool.close()


def chat_body(**fields: object) -> dict[str, object]:
    return {"model": "fake", "messages": [{"role": "user", "content": "Hi"}], **fields}


def events_of(response: httpx.Response) -> list[Any]:
    """The documents of a stream of server-sent events, `[DONE]` as it stands."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def empty_queue() -> QueueSnapshot:
    return QueueSnapshot(ScorePolicy(), (), 0, ())
