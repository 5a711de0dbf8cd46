"""Owns the clients: so many at a time, each asking for one streamed completion after another. Judges nothing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from benchmarks.answers import Answer, AnswerBroken, read_answer
from benchmarks.event_stream import Arrival

_PATH = "/v1/completions"
_WORDS = (
    *("river", "stone", "market", "winter", "garden", "engine", "letter", "silver", "window", "forest", "paper"),
    *("music", "summer", "bridge", "doctor", "harbour", "island", "kitchen", "ladder", "morning", "needle", "orange"),
    *("pencil", "quiet", "rocket", "saddle", "thunder", "uncle", "valley", "wheat", "yellow", "zebra"),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """What every client asks for. The answers have a fixed length: the end of the text is ignored."""

    model: str
    num_prompt_words: int
    num_output_tokens: int
    requests_per_client: int
    request_timeout_s: float

    def body(self, prompt: str) -> dict[str, object]:
        return {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.num_output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no whole answer, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class LevelRun:
    """One round of one number of clients, from the first request to the last answer."""

    num_clients: int
    took_s: float
    answers: list[Answer]
    failures: list[Failure]

    @property
    def output_tokens_per_s(self) -> float:
        return sum(answer.num_output_tokens for answer in self.answers) / self.took_s


class _Refused(Exception):
    """The service answered with another status than 200."""


def distinct_prompts(num_words: int, seed: int) -> Iterator[str]:
    """Prompts that differ from their first words on, so that no cached prefix helps; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        yield " ".join(rng.choices(_WORDS, k=num_words))


async def run_level(http: httpx.AsyncClient, load: Workload, num_clients: int, prompts: Iterator[str]) -> LevelRun:
    """All clients at once until each has asked `requests_per_client` times. Every request is bounded in time."""
    started_s = time.perf_counter()
    outcomes = await asyncio.gather(*(_client(http, load, prompts) for _ in range(num_clients)))
    took_s = time.perf_counter() - started_s
    flat = [outcome for of_client in outcomes for outcome in of_client]
    return LevelRun(
        num_clients=num_clients,
        took_s=took_s,
        answers=[outcome for outcome in flat if isinstance(outcome, Answer)],
        failures=[outcome for outcome in flat if isinstance(outcome, Failure)],
    )


async def ask(http: httpx.AsyncClient, load: Workload, prompt: str) -> Answer | Failure:
    """One request. The stream is only recorded while it runs, and read afterwards: the client costs little."""
    started_s = time.perf_counter()
    try:
        async with asyncio.timeout(load.request_timeout_s):
            arrivals = await _record(http, load.body(prompt))
        return read_answer(started_s, arrivals, load.num_output_tokens)
    except TimeoutError:
        return Failure(f"no whole answer within {load.request_timeout_s:g} s")
    except (httpx.TransportError, AnswerBroken, _Refused) as error:
        return Failure(f"{type(error).__name__}: {error}")


async def _client(http: httpx.AsyncClient, load: Workload, prompts: Iterator[str]) -> list[Answer | Failure]:
    return [await ask(http, load, next(prompts)) for _ in range(load.requests_per_client)]


async def _record(http: httpx.AsyncClient, body: dict[str, object]) -> list[Arrival]:
    headers = {"accept-encoding": "identity"}
    async with http.stream("POST", _PATH, json=body, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            raise _Refused(f"{response.status_code}: {(await response.aread())[:200].decode(errors='replace')}")
        return [Arrival(time.perf_counter(), data) async for data in response.aiter_raw()]
