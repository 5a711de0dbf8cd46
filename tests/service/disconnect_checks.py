"""A client that goes away: what it held is the next one's within a second, on every rank. Knows no one service."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx

from tests.service.running import Service
from tests.service.waiting import FREED_WITHIN_S, queue_of, until

NEXT_IN_LINE = "next-in-line"
_NUM_STEPS_SEEN = 4


async def check_a_disconnect_frees_its_slot(service: Service, model: str, *, num_slots: int) -> None:
    """All slots stream, one request waits, and one stream's client goes away.

    The one that waits gets a token only from a step of every rank in which the other's slot is its own: within the
    second, and on a machine whose steps take long within the step that runs and the one that brings its token. When it
    had it is told by the ingress's log, so that nothing of how often the test looks, or the metrics report, is in it.
    """
    arrivals_s: list[float] = []
    async with (
        httpx.AsyncClient(base_url=service.base_url, timeout=120) as http,
        streaming(service, model, num_slots, arrivals_s) as clients,
    ):
        asking = asyncio.create_task(_ask_for_one_token(http, model))
        await until(lambda: queue_of(http, model), lambda queue: queue["num_waiting"] == 1)

        step_s = await _longest_step_s(arrivals_s)
        gone_s = time.time()
        await give_up(clients[:1])

        assert (await asking).status_code == 200
        [line] = await until(lambda: _lines_of(service, NEXT_IN_LINE), bool)

    assert gone_s <= _answered_s(line) <= gone_s + FREED_WITHIN_S + 2 * step_s


@contextlib.asynccontextmanager
async def streaming(
    service: Service, model: str, num_clients: int, arrivals_s: list[float] | None = None
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """So many clients that each stream an endless answer over a connection of its own; all of them run.

    arrivals_s: gets the times at which something came to the first of them.
    """
    clients = [
        asyncio.create_task(read_on(service, model, arrivals_s if number == 0 else None))
        for number in range(num_clients)
    ]
    try:
        async with httpx.AsyncClient(base_url=service.base_url, timeout=120) as http:
            await until(lambda: queue_of(http, model), lambda queue: queue["num_running"] == num_clients)
        yield clients
    finally:
        await give_up(clients)


async def read_on(service: Service, model: str, arrivals_s: list[float] | None = None) -> None:
    body = {"model": model, "prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    async with (
        httpx.AsyncClient(base_url=service.base_url, timeout=120) as http,
        http.stream("POST", "/v1/completions", json=body) as response,
    ):
        async for _ in response.aiter_bytes():
            if arrivals_s is not None:
                arrivals_s.append(time.monotonic())


async def _longest_step_s(arrivals_s: list[float]) -> float:
    """Of a few that begin now: the longest gap in what comes to a stream that is in each of them."""
    first = len(arrivals_s)

    async def num_new() -> int:
        return len(arrivals_s) - first

    await until(num_new, lambda number: number >= _NUM_STEPS_SEEN)
    return max(after - before for before, after in itertools.pairwise(arrivals_s[first:]))


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
