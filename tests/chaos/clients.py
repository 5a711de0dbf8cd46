"""Owns the load of a chaos run: clients that ask, read what comes, and compare it with the undisturbed answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.books import End, Entry

NUM_CLIENTS = 8
SILENCE_S = 120.0  # longer than a replica and its host take to come back
_NO_INGRESS = "ingress_unavailable"  # fastserve/proxy_errors.py
_RETRY_AFTER_S = 0.5
_REFUSALS = (408, 429, 503)


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is asked again and again, and the answer that it has when nothing disturbs it."""

    body: dict[str, Any]
    answer: tuple[str, ...] = ()
    num_tokens: int = 0


def questions(model: str, number: int, rng: random.Random) -> list[dict[str, Any]]:
    """Bodies of mixed importance, length, kind of sampling and number of choices."""
    return [_question(model, rng) for _ in range(number)]


def _question(model: str, rng: random.Random) -> dict[str, Any]:
    body = {
        "model": model,
        "prompt": "".join(rng.choices("abcdefghij klmnop", k=rng.randrange(4, 60))),
        "max_tokens": rng.randrange(16, 160),
        "temperature": rng.choice([0, 0, 0.9]),
        "seed": rng.randrange(1000),
        "priority": rng.choice([-10, 0, 0, 10]),
        "n": rng.choice([1, 1, 1, 2]),
        "ignore_eos": True,
    }
    streams = rng.random() < 0.8
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if streams else {**body, "stream": False}


async def learned(base_url: str, body: dict[str, Any]) -> Question:
    """The question with its answer, which is the same when it is asked again."""
    first, second = [await ask(base_url, Question(body), "alone") for _ in range(2)]
    assert first.detail == second.detail, (first, second)
    texts, num_tokens = json.loads(first.detail)
    return Question(body, tuple(texts), num_tokens)


@dataclass(slots=True)
class Crowd:
    """So many clients at a time, each asking one question after the other until `stop`."""

    base_url: str
    questions: list[Question]
    rng: random.Random
    sent: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    _open: dict[str, asyncio.Task[Entry]] = field(default_factory=dict)
    _leaving: set[str] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def run(self) -> None:
        """Returns when the last answer has ended after `stop`."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(NUM_CLIENTS):
                clients.create_task(self._ask_on())

    def stop(self) -> None:
        self._stopping.set()

    async def let_some_end(self, number: int, within_s: float) -> None:
        """Returns when so many more requests have ended, however they did; at the latest after `within_s`."""
        self._ended = asyncio.Semaphore(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for _ in range(number):
                    await self._ended.acquire()

    def send_one_away(self) -> str | None:
        """One client leaves in the middle of what it asked; its name."""
        if not self._open:
            return None
        request_id = self.rng.choice(sorted(self._open))
        self._leaving.add(request_id)
        self._open[request_id].cancel()
        return request_id

    async def _ask_on(self) -> None:
        while not self._stopping.is_set():
            entry = await self._ask(self.rng.choice(self.questions))
            self.entries.append(entry)
            self._ended.release()
            if entry.end is not End.COMPLETE:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _RETRY_AFTER_S)

    async def _ask(self, question: Question) -> Entry:
        request_id = f"chaos-{len(self.sent)}"
        self.sent.append(request_id)
        sent_s = time.monotonic()
        asking = self._open[request_id] = asyncio.create_task(ask(self.base_url, question, request_id))
        try:
            return await asking
        except asyncio.CancelledError:
            if request_id not in self._leaving:
                raise
            return Entry(request_id, sent_s, time.monotonic(), End.LEFT)
        finally:
            del self._open[request_id]


async def ask(base_url: str, question: Question, request_id: str) -> Entry:
    """Asks over a connection of its own, and says how it ended."""
    reading = _Reading(question, request_id, time.monotonic())
    timeout = httpx.Timeout(SILENCE_S)
    try:
        async with httpx.AsyncClient(base_url=base_url, timeout=timeout) as http:
            headers = {"x-request-id": request_id}
            async with http.stream("POST", "/v1/completions", json=question.body, headers=headers) as response:
                return await reading.read(response)
    except httpx.TimeoutException as error:
        return reading.ended(End.SILENT, repr(error))
    except httpx.TransportError as error:
        return reading.ended(End.BROKEN, repr(error))


@dataclass(slots=True)
class _Reading:
    """One answer while it is read."""

    question: Question
    request_id: str
    sent_s: float
    worst_gap_s: float = 0.0

    def ended(self, end: End, detail: str = "") -> Entry:
        return Entry(self.request_id, self.sent_s, time.monotonic(), end, detail, self.worst_gap_s)

    async def read(self, response: httpx.Response) -> Entry:
        if response.status_code != 200:
            return self._not_answered(response.status_code, await response.aread())
        texts, num_tokens, error = await (self._stream if self.question.body["stream"] else _whole)(response)
        if error:
            return self.ended(End.FAILED, error)
        if num_tokens is None:
            return self.ended(End.BROKEN, "the stream ended without its end")
        if (texts, num_tokens) != (self.question.answer, self.question.num_tokens) and self.question.answer:
            return self.ended(End.WRONG, f"{num_tokens} tokens: {texts} instead of {self.question.answer}")
        return self.ended(End.COMPLETE, json.dumps([texts, num_tokens]))

    def _not_answered(self, status: int, body: bytes) -> Entry:
        """What the proxy says, for want of an ingress, is a broken connection: a refusal is the ingress's alone."""
        try:
            code = json.loads(body)["error"]["code"]
        except (ValueError, KeyError, TypeError):
            code = _NO_INGRESS
        if code == _NO_INGRESS:
            return self.ended(End.BROKEN, f"{status} from the proxy")
        return self.ended(End.REFUSED if status in _REFUSALS else End.FAILED, f"{status} {code}")

    async def _stream(self, response: httpx.Response) -> tuple[tuple[str, ...], int | None, str]:
        texts, num_tokens, is_done = [""] * self.question.body["n"], None, False
        heard_s = time.monotonic()
        async for event in _events(response):
            now_s = time.monotonic()
            self.worst_gap_s, heard_s = max(self.worst_gap_s, now_s - heard_s), now_s
            if event == "[DONE]":
                is_done = True
                continue
            said = json.loads(event)
            if "error" in said:
                return tuple(texts), num_tokens, str(said["error"])
            for choice in said["choices"]:
                texts[choice["index"]] += choice["text"]
            num_tokens = (said.get("usage") or {}).get("completion_tokens", num_tokens)
        return tuple(texts), num_tokens if is_done else None, ""


async def _events(response: httpx.Response) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


async def _whole(response: httpx.Response) -> tuple[tuple[str, ...], int | None, str]:
    answer = json.loads(await response.aread())
    texts = {choice["index"]: choice["text"] for choice in answer["choices"]}
    return tuple(texts[index] for index in sorted(texts)), answer["usage"]["completion_tokens"], ""
