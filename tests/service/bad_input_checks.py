"""Hundreds of bad requests beside streams: each gets its refusal, and neither streams nor memory feel them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from itertools import chain

import httpx
import psutil

from tests.bad_requests import BadRequest, bad_requests
from tests.service.running import Service

NUM_STREAMS = 4
NUM_TOKENS = 48
NUM_SENDERS = 4
NUM_ROUNDS = 5
MAX_GROWTH = 0.05  # of all ingresses' resident memory, from the end of the first round on
_TIMEOUT_S = 120


async def check_bad_requests_are_refused_and_disturb_nobody(service: Service, model: str) -> None:
    bad = bad_requests(model)
    async with httpx.AsyncClient(base_url=service.base_url, timeout=_TIMEOUT_S) as http:
        undisturbed = await _streamed(http, model)
        assert await _wrongly_answered(http, bad) == []
        before = _resident_bytes(service)
        ending = asyncio.Event()
        streaming = asyncio.create_task(_streams_until(http, model, ending))
        try:
            for number in range(NUM_ROUNDS):
                shuffled = random.Random(number).sample(bad, len(bad))
                assert await _wrongly_answered(http, shuffled) == []
        finally:
            ending.set()
            beside = await streaming

    assert all(texts == undisturbed for texts in beside)
    assert _resident_bytes(service) <= before * (1 + MAX_GROWTH)


async def _wrongly_answered(http: httpx.AsyncClient, bad: Sequence[BadRequest]) -> list[str]:
    """What got another answer than it should; sent by a few clients at a time."""
    shares = (bad[index::NUM_SENDERS] for index in range(NUM_SENDERS))
    found = await asyncio.gather(*(_judged(http, share) for share in shares))
    return list(chain.from_iterable(found))


async def _judged(http: httpx.AsyncClient, bad: Sequence[BadRequest]) -> list[str]:
    wrong = []
    for each in bad:
        answer = await http.request(
            each.method, each.path, content=each.content, headers={"content-type": each.content_type}
        )
        if not _is_refusal(answer, each):
            wrong.append(f"{each}: {answer.status_code}: {answer.text[:300]}")
    return wrong


def _is_refusal(answer: httpx.Response, bad: BadRequest) -> bool:
    """Of OpenAI's shape, and as it should be."""
    error = answer.json().get("error", {}) if "json" in answer.headers.get("content-type", "") else {}
    if answer.status_code != bad.status or error.keys() != {"message", "type", "param", "code"}:
        return False
    names_field = error["param"] is None if bad.param is None else str(error["param"]).startswith(bad.param)
    return names_field and bad.code in (None, error["code"]) and "Traceback" not in answer.text


async def _streams_until(http: httpx.AsyncClient, model: str, ending: asyncio.Event) -> list[list[str]]:
    """One batch of streams after the other."""
    read = []
    while not ending.is_set():
        read.append(await _streamed(http, model))
    return read


async def _streamed(http: httpx.AsyncClient, model: str) -> list[str]:
    """What streams at the same time say, each to its end."""
    return await asyncio.gather(*(_stream(http, model, f"Tale {number}: once upon") for number in range(NUM_STREAMS)))


async def _stream(http: httpx.AsyncClient, model: str, prompt: str) -> str:
    body = {"model": model, "prompt": prompt, "max_tokens": NUM_TOKENS, "ignore_eos": True, "stream": True}
    async with http.stream("POST", "/v1/completions", json={**body, "temperature": 0}) as response:
        events = [line async for line in response.aiter_lines() if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    documents = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    return "".join(choice["text"] for document in documents for choice in document["choices"])


def _resident_bytes(service: Service) -> int:
    processes: list[psutil.Process] = service.replica_processes("Ingress")
    return sum(process.memory_info().rss for process in processes)
