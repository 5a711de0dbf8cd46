"""An urgent request and a full replica: bulk work gives way, and goes on afterwards as if nothing had been."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson

from tests.service.waiting import queue_of, until

WITHIN_S = 120.0
BULK: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "priority": -10, "seed": 3}
URGENT: dict[str, Any] = {"prompt": "The capital of France is", "max_tokens": 100, "ignore_eos": True, "priority": 10}


async def check_an_urgent_request_takes_the_place_of_bulk_work(base_url: str, model: str) -> None:
    """The model must have one slot, and be in float32: the bulk answer's text must be what it is undisturbed.

    The urgent one is sent when the engine has the bulk one, and is long enough for a look at the queue meanwhile.
    """
    async with httpx.AsyncClient(base_url=base_url, timeout=WITHIN_S) as http:
        alone = [await _text(http, model, body) for body in (BULK, URGENT)]

        has_begun = asyncio.Event()
        bulk = asyncio.create_task(_text(http, model, BULK, has_begun))
        await asyncio.wait_for(has_begun.wait(), WITHIN_S)
        urgent = asyncio.create_task(_text(http, model, URGENT))
        queue = await until(lambda: queue_of(http, model), lambda queue: queue["num_waiting"] == 1, within_s=WITHIN_S)
        urgent_text = await urgent
        assert not bulk.done(), "the bulk answer ended before the urgent one"
        bulk_text = await bulk

        idle = await until(lambda: queue_of(http, model), lambda queue: queue["num_running"] == 0, within_s=WITHIN_S)
    assert [(waiting["priority"], waiting["why"]) for waiting in queue["waiting"]] == [(-10, "gave way on its replica")]
    assert [bulk_text, urgent_text] == alone
    assert idle["num_waiting"] == 0


async def _text(
    http: httpx.AsyncClient, model: str, body: dict[str, Any], has_begun: asyncio.Event | None = None
) -> str:
    """has_begun: is set when the first text has come."""
    pieces = []
    request = {"model": model, "stream": True, "temperature": 0, **body}
    async with http.stream("POST", "/v1/completions", json=request) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                pieces += [choice["text"] for choice in orjson.loads(line[6:])["choices"]]
                if has_begun is not None and any(pieces):
                    has_begun.set()
    return "".join(pieces)
