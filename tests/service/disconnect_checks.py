"""A client that goes away: what it held is the next one's within a second, on every rank. Knows no one service."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx

from tests.service.running import Service
from tests.service.waiting import FREED_WITHIN_S, queue_of, until

NEXT_IN_LINE = "next-in-line"


async def check_a_disconnect_frees_its_slot(service: Service, model: str, *, num_slots: int) -> None:
    """All slots stream, one request waits, and one stream's client goes away.

    The one that waits gets a token only from a step of every rank in which the other's slot is its own. When it had it
    is told by the ingress's log, so that nothing of how often the test looks, or the metrics report, is in the measure.
    """
    async with (
        httpx.AsyncClient(base_url=service.base_url, timeout=120) as http,
        streaming(service, model, num_slots) as clients,
    ):
        asking = asyncio.create_task(_ask_for_one_token(http, model))
        await until(lambda: queue_of(http, model), lambda queue: queue["num_waiting"] == 1)

        gone_s = time.time()
        await give_up(clients[:1])

        assert (await asking).status_code == 200
        [line] = await until(lambda: _lines_of(service, NEXT_IN_LINE), bool)

    assert gone_s <= _answered_s(line) <= gone_s + FREED_WITHIN_S


@contextlib.asynccontextmanager
async def streaming(service: Service, model: str, num_clients: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """So many clients that each stream an endless answer over a connection of its own; all of them run."""
    clients = [asyncio.create_task(read_on(service, model)) for _ in range(num_clients)]
    try:
        async with httpx.AsyncClient(base_url=service.base_url, timeout=120) as http:
            await until(lambda: queue_of(http, model), lambda queue: queue["num_running"] == num_clients)
        yield clients
    finally:
        await give_up(clients)


async def read_on(service: Service, model: str) -> None:
    body = {"model": model, "prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    async with (
        httpx.AsyncClient(base_url=service.base_url, timeout=120) as http,
        http.stream("POST", "/v1/completions", json=body) as response,
    ):
        async for _ in response.aiter_bytes():
            continue


async def give_up(clients: list[asyncio.Task[None]]) -> None:
    """Each connection is closed when this returns."""
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


async def _ask_for_one_token(http: httpx.AsyncClient, model: str) -> httpx.Response:
    body = {"model": model, "prompt": "Hello", "max_tokens": 1}
    return await http.post("/v1/completions", json=body, headers={"x-request-id": NEXT_IN_LINE})


async def _lines_of(service: Service, request_id: str) -> list[dict[str, Any]]:
    return [line for line in await service.json_lines("request") if line["request_id"] == request_id]


def _answered_s(line: dict[str, Any]) -> float:
    """When the answer was out, in seconds since the epoch."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()
