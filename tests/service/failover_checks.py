"""A stream and the replica that gives it: whatever is killed or stopped, the client reads the undisturbed text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

WITHIN_S = 180.0
NUM_TOKENS = 160
BEGUN = 20  # tokens that the client has read when its replica is disturbed
BODIES: list[dict[str, Any]] = [
    {"prompt": "Once upon a time", "temperature": 0},
    {"prompt": "Once upon a time", "temperature": 0.9, "seed": 7},
]


async def check_a_stream_outlives_its_replica(
    base_url: str, model: str, body: dict[str, Any], disturb: Callable[[], None]
) -> None:
    """The model must be in float32. `disturb` is called in the middle of the answer."""
    asked = {**body, "model": model, "max_tokens": NUM_TOKENS, "ignore_eos": True, "logprobs": 1}
    async with httpx.AsyncClient(base_url=base_url, timeout=WITHIN_S) as http:
        alone = await _read(http, asked, lambda: None)
        disturbed = await asyncio.wait_for(_read(http, asked, disturb), WITHIN_S)
    assert disturbed == alone
    assert disturbed[1]["completion_tokens"] == len(disturbed[2]) == NUM_TOKENS


async def _read(
    http: httpx.AsyncClient, body: dict[str, Any], disturb: Callable[[], None]
) -> tuple[str, dict[str, Any], list[str]]:
    """The text, the usage, and the tokens whose logprobs came."""
    text, usage, tokens = "", {}, []
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with http.stream("POST", "/v1/completions", json=streamed) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text += choice["text"]
                had_begun = len(tokens) >= BEGUN
                tokens += (choice["logprobs"] or {}).get("tokens", [])
                if len(tokens) >= BEGUN and not had_begun:
                    await asyncio.to_thread(disturb)
    del usage["prompt_tokens_details"]  # what was cached
    return text, usage, tokens
