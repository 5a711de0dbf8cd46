"""Owns the clients: so many at a time, each asking for one streamed completion after another. Judges nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.answers import Answer, AnswerBroken, read_answer
from benchmarks.connection import Connection, Refused
from benchmarks.event_stream import Arrival
from benchmarks.http_response import ResponseBroken

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


def distinct_prompts(num_words: int, seed: int) -> Iterator[str]:
    """Prompts that differ from their first words on, so that no cached prefix helps; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        yield prompt_of(num_words, rng)


def prompt_of(num_words: int, rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=num_words))


async def run_level(base_url: str, load: Workload, num_clients: int, prompts: Iterator[str]) -> LevelRun:
    """All clients at once until each has asked `requests_per_client` times. Every request is bounded in time.

    The streams are only recorded while the clock runs, and read afterwards: the clients cost little.
    """
    started_s = time.perf_counter()
    recorded = await asyncio.gather(*(_client(base_url, load, prompts) for _ in range(num_clients)))
    took_s = time.perf_counter() - started_s
    outcomes = [_read(each, load) for of_client in recorded for each in of_client]
    return LevelRun(
        num_clients=num_clients,
        took_s=took_s,
        answers=[outcome for outcome in outcomes if isinstance(outcome, Answer)],
        failures=[outcome for outcome in outcomes if isinstance(outcome, Failure)],
    )


async def ask(base_url: str, load: Workload, prompt: str) -> Answer | Failure:
    """One request, over a connection of its own."""
    with contextlib.closing(Connection(base_url)) as connection:
        return _read(await _record(connection, load, prompt), load)


@dataclass(frozen=True, slots=True)
class _Recording:
    started_s: float
    arrivals: list[Arrival]


async def _client(base_url: str, load: Workload, prompts: Iterator[str]) -> list[_Recording | Failure]:
    with contextlib.closing(Connection(base_url)) as connection:
        return [await _record(connection, load, next(prompts)) for _ in range(load.requests_per_client)]


async def _record(connection: Connection, load: Workload, prompt: str) -> _Recording | Failure:
    started_s = time.perf_counter()
    try:
        async with asyncio.timeout(load.request_timeout_s):
            return _Recording(started_s, await connection.post(_PATH, load.body(prompt)))
    except TimeoutError:
        return Failure(f"no whole answer within {load.request_timeout_s:g} s")
    except (OSError, ResponseBroken, Refused) as error:
        return Failure(f"{type(error).__name__}: {error}")


def _read(recorded: _Recording | Failure, load: Workload) -> Answer | Failure:
    if isinstance(recorded, Failure):
        return recorded
    try:
        return read_answer(recorded.started_s, recorded.arrivals, load.num_output_tokens)
    except AnswerBroken as error:
        return Failure(f"{type(error).__name__}: {error}")
