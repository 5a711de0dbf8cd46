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
MOST_PER_LOOK_S = 0.1  # of steadiness: while the whole machine stands still nobody tells anything
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
    """The model's entry in `/v1/queue`; one that is like no queue's while it cannot be asked."""
    response = await _asked(http, "/v1/queue")
    listing = [] if response is None else response.json()["data"]
    policy = {"alpha": math.nan, "beta": math.nan}
    none = {"model": model, "num_waiting": -1, "num_running": -1, "waiting": [], "replicas": [], "policy": policy}
    return next((entry for entry in listing if entry["model"] == model), none)


async def metric_total(http: httpx.AsyncClient, sample_name: str) -> float:
    """The sum of a metric's samples over all labels; 0 when there are none, and no number while nobody can tell."""
    samples = await metric_samples(http, sample_name)
    return math.nan if samples is None else sum(samples)


async def metric_samples(http: httpx.AsyncClient, sample_name: str) -> list[float] | None:
    """The values of a metric, whatever their labels; None while nobody can tell."""
    response = await _asked(http, "/metrics")
    if response is None:
        return None
    samples = (sample for family in text_string_to_metric_families(response.text) for sample in family.samples)
    return [sample.value for sample in samples if sample.name == sample_name]


async def _asked(http: httpx.AsyncClient, path: str) -> httpx.Response | None:
    """The answer; None where there is none now, or the ingress or the proxy in front says so."""
    try:
        response = await http.get(path)
    except httpx.TransportError:
        return None
    return None if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else response.raise_for_status()


async def settled_total(http: httpx.AsyncClient, sample_name: str) -> float:
    """A counter's total with all in it that was counted before: it stayed the same over more than a report's period."""
    steady = _Steady()

    async def look() -> float:
        return steady.seen(await metric_total(http, sample_name), time.monotonic())

    await until(look, lambda steady_s: steady_s >= SETTLED_AFTER_S)
    return steady.value


@dataclass(slots=True)
class _Steady:
    """A value, and for how long it has not changed, of which one look tells no more than `MOST_PER_LOOK_S`."""

    value: float = math.nan
    steady_s: float = 0.0
    looked_s: float = 0.0

    def seen(self, value: float, now_s: float) -> float:
        """For how many seconds the value has been this one."""
        told_s = min(now_s - self.looked_s, MOST_PER_LOOK_S)
        self.steady_s = self.steady_s + told_s if value == self.value else 0.0
        self.value, self.looked_s = value, now_s
        return self.steady_s


def is_empty(queue: dict[str, Any]) -> bool:
    """Whether nobody waits and nobody runs."""
    return bool(queue["num_waiting"] == 0 and queue["num_running"] == 0)
