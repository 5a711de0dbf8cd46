"""Waiting for what a service shows, with a bound; and reading it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deployments.telemetry.metrics_reporter import REPORT_S

WITHIN_S = 90.0
FREED_WITHIN_S = 1.0  # what is promised of a disconnect
SETTLED_AFTER_S = 2 * REPORT_S  # every process has told its counts in between
T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], holds: Callable[[T], bool], *, within_s: float = WITHIN_S) -> T:
    """What `look` shows as soon as `holds` is true of it.

    Raises:
        AssertionError: it was not within `within_s`; with what was seen last.
    """
    seen: Any = "nothing"
    try:
        async with asyncio.timeout(within_s):
            while not holds(seen := await look()):  # noqa: ASYNC110 - another process, looked at over HTTP
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s; last seen: {seen}") from None
    return seen


async def queue_of(http: httpx.AsyncClient, model: str) -> dict[str, Any]:
    """The model's entry in `/v1/queue`; an empty one while its queue cannot be asked."""
    listing = (await http.get("/v1/queue")).json()["data"]
    empty = {"model": model, "num_waiting": -1, "num_running": -1, "waiting": [], "replicas": []}
    return next((entry for entry in listing if entry["model"] == model), empty)


async def metric_total(http: httpx.AsyncClient, sample_name: str) -> float:
    """The sum of a metric's samples over all labels; 0 when there are none."""
    return sum(await metric_samples(http, sample_name))


async def metric_samples(http: httpx.AsyncClient, sample_name: str) -> list[float]:
    """The values of a metric, whatever their labels."""
    text = (await http.get("/metrics")).raise_for_status().text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return [sample.value for sample in samples if sample.name == sample_name]


async def settled_total(http: httpx.AsyncClient, sample_name: str) -> float:
    """A counter's total with all in it that was counted before: it stayed the same over more than a report's period."""
    steady = _Steady()

    async def look() -> float:
        return steady.seen(await metric_total(http, sample_name), time.monotonic())

    await until(look, lambda steady_s: steady_s >= SETTLED_AFTER_S)
    return steady.value


@dataclass(slots=True)
class _Steady:
    """A value, and since when it has not changed."""

    value: float = math.nan
    since_s: float = 0.0

    def seen(self, value: float, now_s: float) -> float:
        """For how many seconds the value has been this one."""
        if value != self.value:
            self.value, self.since_s = value, now_s
        return now_s - self.since_s


def is_empty(queue: dict[str, Any]) -> bool:
    """Whether nobody waits and nobody runs."""
    return bool(queue["num_waiting"] == 0 and queue["num_running"] == 0)
