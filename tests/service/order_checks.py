"""Thirty requests, one slot, several ingresses: they must start in key order, and `/v1/queue` must show it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx

from tests.service.waiting import queue_of, until

NUM_REQUESTS = 30
WITHIN_S = 120.0


async def check_starts_in_key_order(base_url: str, model: str, *, seed: int) -> None:
    """The model must have one slot and more than one token to generate for the request that holds it."""
    async with httpx.AsyncClient(base_url=base_url, timeout=WITHIN_S, limits=httpx.Limits(max_connections=64)) as http:
        holder = asyncio.create_task(hold_a_slot(http, model))
        await until(lambda: queue_of(http, model), lambda queue: queue["num_running"] == 1, within_s=WITHIN_S)

        priorities = [float(i % 10) for i in range(NUM_REQUESTS)]
        random.Random(seed).shuffle(priorities)
        started: list[dict[str, Any]] = []
        tasks = [asyncio.create_task(_start(http, model, priority, started)) for priority in priorities]
        queue = await until(
            lambda: queue_of(http, model), lambda queue: queue["num_waiting"] == NUM_REQUESTS, within_s=WITHIN_S
        )
        holder.cancel()
        await asyncio.gather(*tasks)

    shown = queue["waiting"]
    keys = [waiting["key"] for waiting in shown]
    assert keys == sorted(keys, reverse=True)
    assert [waiting["position"] for waiting in shown] == list(range(NUM_REQUESTS))
    in_start_order = sorted(started, key=lambda start: start["started_s"])
    assert [start["request_id"] for start in in_start_order] == [waiting["request_id"] for waiting in shown]
    assert len({start["replica"] for start in started}) == 1


async def hold_a_slot(http: httpx.AsyncClient, model: str) -> None:
    """Streams until it is cancelled, or some 8,000 tokens long."""
    body = {"model": model, "prompt": "Once", "max_tokens": 8000, "ignore_eos": True, "stream": True, "priority": 100}
    async with http.stream("POST", "/v1/completions", json=body) as response:
        async for _ in response.aiter_bytes():
            continue


async def _start(http: httpx.AsyncClient, model: str, priority: float, started: list[dict[str, Any]]) -> None:
    body = {"model": model, "prompt": "Hello", "max_tokens": 1, "stream": True, "priority": priority}
    async with http.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200, await response.aread()
        await response.aread()
        headers = response.headers
        queue_s = float(headers["x-fastserve-queue-ms"]) / 1000
        key = float(headers["x-fastserve-key"])
        # key = alpha * priority - beta * arrival, with the shipped weights: the arrival that the queue stamped
        arrival_s = (priority - key) / 0.1
        started.append(
            {
                "request_id": headers["x-request-id"].split(",")[0],
                "started_s": arrival_s + queue_s,
                "replica": headers["x-fastserve-replica"],
            }
        )
