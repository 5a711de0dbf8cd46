"""Owns how much of a mix a service bears: more and more clients that ask without pause, and the knee of what they get.
Knows nothing of schedules."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.answers import Answer
from benchmarks.asking import Asking, PlannedRequest
from benchmarks.attempt import Outcome, attempt, outcome
from benchmarks.connection_pool import ConnectionPool
from fastserve.errors import ServerFailed

FEWEST_CLIENTS = 4
_GAIN = 1.05  # twice the clients that do not bring so much more have found no more room
_KNEE = 0.95  # of the highest rate
_RAMP = 0.25  # of a level's time, in which all clients begin at once: not counted


@dataclass(frozen=True, slots=True)
class ClosedLevel:
    """What one number of clients got. requests_per_s: output tokens/s over the mean answer of the mix, so that what a
    level's ends cut in two counts with its part."""

    num_clients: int
    requests_per_s: float
    output_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """levels: fewest clients first."""

    levels: list[ClosedLevel]

    @property
    def knee(self) -> ClosedLevel:
        """The fewest clients that get nearly the highest rate: more of them only wait."""
        enough = _KNEE * max(level.requests_per_s for level in self.levels)
        return next(level for level in self.levels if level.requests_per_s >= enough)

    @property
    def is_saturated(self) -> bool:
        """The last level brought little more than the best before it."""
        *before, last = self.levels
        return bool(before) and last.requests_per_s < _GAIN * max(level.requests_per_s for level in before)


async def measure_capacity(
    base_url: str,
    asking: Asking,
    requests: Iterator[PlannedRequest],
    mean_output_tokens: float,
    level_s: float,
    max_clients: int,
) -> Capacity:
    """4, 8, 16, ... clients, until twice as many get no more. mean_output_tokens: of an answer of the mix.

    Raises:
        ServerFailed: a request failed or was refused, or `max_clients` clients do not saturate the service.
    """
    levels: list[ClosedLevel] = []
    num_clients = FEWEST_CLIENTS
    with contextlib.closing(ConnectionPool(base_url)) as pool:
        while num_clients <= max_clients:
            tokens_per_s = await _level(pool, asking, requests, num_clients, level_s)
            levels.append(ClosedLevel(num_clients, tokens_per_s / mean_output_tokens, tokens_per_s))
            if Capacity(levels).is_saturated:
                return Capacity(levels)
            num_clients *= 2
    raise ServerFailed(
        f"capacity: expected at most {max_clients} clients to saturate the service, but the last level still "
        f"brought {levels[-1].requests_per_s:.2f} requests/s; allow more clients"
    )


async def _level(
    pool: ConnectionPool, asking: Asking, requests: Iterator[PlannedRequest], num_clients: int, level_s: float
) -> float:
    started_s = time.perf_counter()
    ends_s = started_s + level_s
    clients = (_client(pool, asking, requests, ends_s) for _ in range(num_clients))
    outcomes = [each for of_client in await asyncio.gather(*clients) for each in of_client]
    return output_tokens_per_s(outcomes, started_s + _RAMP * level_s, ends_s)


async def _client(
    pool: ConnectionPool, asking: Asking, requests: Iterator[PlannedRequest], ends_s: float
) -> list[Outcome]:
    """Asks until the level's time is over, and waits for its last answer."""
    outcomes = []
    while (now_s := time.perf_counter()) < ends_s:
        planned = next(requests)
        tried = await attempt(pool, asking, planned, now_s, now_s + asking.request_timeout_s)
        outcomes.append(outcome(planned, now_s, [tried]))
    return outcomes


def output_tokens_per_s(outcomes: Sequence[Outcome], from_s: float, until_s: float) -> float:
    """What came between two times.

    Raises:
        ServerFailed: an outcome is no answer.
    """
    answers = []
    for each in outcomes:
        if not isinstance(each.result, Answer):
            raise ServerFailed(f"capacity: expected answers only, got {each.result}")
        answers.append(each.result)
    return sum(answer.tokens_until(until_s) - answer.tokens_until(from_s) for answer in answers) / (until_s - from_s)
