"""Owns a short load on a running service: clients that stream completions, and when the events came. Judges nothing.

Where clients and service share the cores, what the clients use is missing from what they measure: a piece of a stream
is only searched for the beginnings of events here, never decoded.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastserve.errors import RequestRefused, ServerUnreachable

_PATH = "/v1/completions"
_EVENT = b"data: {"
_READ_BYTES = 65_536
_MOST_HEAD_BYTES = 65_536
_OK = 200
_WORDS = ("river", "stone", "market", "winter", "garden", "letter", "silver", "window", "forest", "paper", "summer")


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What every client asks for: a greedy answer of fixed length, to a prompt that nobody asked before."""

    model: str
    num_prompt_words: int
    num_output_tokens: int
    timeout_s: float = 300.0

    def body(self, prompt: str) -> bytes:
        return json.dumps(
            {
                "model": self.model,
                "prompt": prompt,
                "max_tokens": self.num_output_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
            }
        ).encode()


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """When it was asked for, and when its first and its last event came, by a clock of their own."""

    asked_s: float
    first_s: float
    last_s: float
    num_output_tokens: int

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.asked_s

    @property
    def tpot_s(self) -> float | None:
        """None of a single token."""
        return (self.last_s - self.first_s) / (self.num_output_tokens - 1) if self.num_output_tokens > 1 else None


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """So many clients at once, from the first request to the last answer."""

    num_clients: int
    took_s: float
    answers: list[StreamedAnswer]

    @property
    def output_tokens_per_s(self) -> float:
        return sum(answer.num_output_tokens for answer in self.answers) / self.took_s


def run_level(
    base_url: str,
    request: LoadRequest,
    num_clients: int,
    num_each: int,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> LoadLevel:
    """Every client asks `num_each` times, one request after another.

    Raises:
        ServerUnreachable: nobody answers there, or an answer broke off or took too long.
        RequestRefused: the service answered with another status than 200.
    """
    return asyncio.run(_run_level(base_url, request, num_clients, num_each, seed, clock))


async def _run_level(
    base_url: str, request: LoadRequest, num_clients: int, num_each: int, seed: int, clock: Callable[[], float]
) -> LoadLevel:
    prompts = _prompts(request.num_prompt_words, seed)
    began_s = clock()

    async def client() -> list[StreamedAnswer]:
        return [await _ask(base_url, request, next(prompts), clock) for _ in range(num_each)]

    answered = await asyncio.gather(*(client() for _ in range(num_clients)))
    return LoadLevel(num_clients, clock() - began_s, [answer for answers in answered for answer in answers])


async def _ask(base_url: str, request: LoadRequest, prompt: str, clock: Callable[[], float]) -> StreamedAnswer:
    asked_s = clock()
    try:
        async with asyncio.timeout(request.timeout_s):
            times_s = await _event_times(base_url, request.body(prompt), clock)
    except TimeoutError:
        raise ServerUnreachable(f"{base_url}: no whole answer within {request.timeout_s:g} s") from None
    except OSError as error:
        raise ServerUnreachable(f"{base_url}: {error}") from error
    if not times_s:
        raise ServerUnreachable(f"{base_url}: an answer without events")
    return StreamedAnswer(asked_s, times_s[0], times_s[-1], request.num_output_tokens)


async def _event_times(base_url: str, body: bytes, clock: Callable[[], float]) -> list[float]:
    """One for each event with data, over a connection of its own that ends with the answer."""
    url = urlsplit(base_url)
    if url.scheme != "http" or url.hostname is None:
        raise ServerUnreachable(f"base_url: expected http://HOST:PORT, got {base_url!r}")
    reader, writer = await asyncio.open_connection(url.hostname, url.port or 80, limit=_MOST_HEAD_BYTES)
    try:
        writer.write(_head(url.netloc, url.path, len(body)) + body)
        await _require_ok(reader)
        return await _read_events(reader, clock)
    finally:
        writer.close()


async def _require_ok(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(None, 2)[1])
    if status != _OK:
        said = (await reader.read(200)).decode(errors="replace")
        raise RequestRefused(status, said, code=None, retry_after_s=None)


async def _read_events(reader: asyncio.StreamReader, clock: Callable[[], float]) -> list[float]:
    times_s: list[float] = []
    rest = b""
    while piece := await reader.read(_READ_BYTES):
        at_s = clock()
        seen = rest + piece
        times_s += [at_s] * seen.count(_EVENT)
        rest = seen[len(seen) - len(_EVENT) + 1 :]
    return times_s


def _head(netloc: str, path: str, num_bytes: int) -> bytes:
    lines = (
        f"POST {path.rstrip('/')}{_PATH} HTTP/1.1",
        f"host: {netloc.rpartition('@')[2]}",
        "content-type: application/json",
        "connection: close",
        f"content-length: {num_bytes}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _prompts(num_words: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    while True:
        yield " ".join(rng.choices(_WORDS, k=num_words))
