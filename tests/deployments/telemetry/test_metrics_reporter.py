"""Reporting outlives a hub that is gone, silent, or cannot be looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from deployments.telemetry.metric_snapshot import MetricsSnapshot
from deployments.telemetry.metrics_reporter import MetricsReporter

WITHIN_S = 5.0
SNAPSHOT = MetricsSnapshot("ingress-1", {})


class Hub:
    """A hub whose `report.remote` is `answer`."""

    def __init__(self, answer: Callable[[], Awaitable[None]]) -> None:
        self.told: list[MetricsSnapshot] = []
        self._answer = answer
        self.report = SimpleNamespace(remote=self._take)

    async def _take(self, snapshot: MetricsSnapshot) -> None:
        self.told.append(snapshot)
        await self._answer()


async def agree() -> None:
    """Answers at once."""


async def never() -> None:
    await asyncio.Event().wait()


def reporter_to(*found: Any, timeout_s: float = WITHIN_S) -> MetricsReporter:
    """Each look for the hub ends as the next of `found` says; an exception is raised."""
    looks = iter(found)

    async def find(app_name: str) -> Any:
        hub = next(looks)
        if isinstance(hub, Exception):
            raise hub
        return hub

    return MetricsReporter("app", lambda: SNAPSHOT, find, timeout_s)


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("Ray has been shut down"), ValueError("no such actor"), ConnectionError("GCS"), ActorDiedError()],
)
async def test_a_look_up_that_fails_is_tried_again(failure: Exception) -> None:
    hub = Hub(agree)
    reporter = reporter_to(failure, hub)

    assert await reporter.report() is None
    assert await reporter.report() is hub
    assert hub.told == [SNAPSHOT]


async def test_a_hub_that_never_answers_is_given_up_and_looked_for_again() -> None:
    silent, next_one = Hub(never), Hub(agree)
    reporter = reporter_to(silent, next_one, timeout_s=0.01)

    async with asyncio.timeout(WITHIN_S):
        assert await reporter.report() is None
        assert await reporter.report() is next_one
