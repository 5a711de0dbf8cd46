"""Owns one sending of one request: when it was due, when it went out, what came back. Decides no time itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks import event_stream
from benchmarks.answers import Answer, AnswerBroken, read_answer
from benchmarks.asking import Asking, PlannedRequest
from benchmarks.connection import Refused
from benchmarks.connection_pool import ConnectionPool
from benchmarks.http_response import ResponseBroken
from benchmarks.load import Failure
from simulation.workload import Arrival

_PATH = "/v1/completions"
_REFUSALS = frozenset({408, 429, 503})

Recording = list[event_stream.Arrival]
Success = TypeVar("Success", Recording, Answer)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The service had no room (429), no replica (503), or the deadline passed in its queue (408)."""

    status: int
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Attempt(Generic[Success]):
    """due_s: when it was to be sent. sent_s: when it was. All times by `time.perf_counter`."""

    due_s: float
    sent_s: float
    ended_s: float
    result: Success | Refusal | Failure

    @property
    def lateness_s(self) -> float:
        return self.sent_s - self.due_s

    @property
    def returns_at_s(self) -> float | None:
        """When a client that does as it is told asks again."""
        if not isinstance(self.result, Refusal) or self.result.retry_after_s is None:
            return None
        return self.ended_s + self.result.retry_after_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. due_s: its scheduled time, from which its TTFT counts. attempts: at least one."""

    arrival: Arrival
    due_s: float
    attempts: tuple[Attempt[Answer], ...]

    @property
    def result(self) -> Answer | Refusal | Failure:
        return self.attempts[-1].result


async def attempt(
    pool: ConnectionPool, asking: Asking, planned: PlannedRequest, due_s: float, deadline_s: float
) -> Attempt[Recording]:
    """Sends at once. The answer is only recorded: reading it is left for when the clock has stopped."""
    sent_s = time.perf_counter()
    result = await _recorded(pool, asking, planned, max(0.0, deadline_s - sent_s))
    return Attempt(due_s, sent_s, time.perf_counter(), result)


async def _recorded(
    pool: ConnectionPool, asking: Asking, planned: PlannedRequest, timeout_s: float
) -> Recording | Refusal | Failure:
    try:
        async with asyncio.timeout(timeout_s):
            return await pool.post(_PATH, asking.body(planned), asking.headers(planned.arrival.tenant))
    except TimeoutError:
        return Failure(f"no whole answer within {asking.request_timeout_s:g} s of its scheduled time")
    except Refused as refused:
        if refused.status in _REFUSALS:
            return Refusal(refused.status, refused.retry_after_s)
        return Failure(f"Refused: {refused}")
    except (OSError, ResponseBroken) as error:
        return Failure(f"{type(error).__name__}: {error}")


def outcome(planned: PlannedRequest, due_s: float, attempts: Sequence[Attempt[Recording]]) -> Outcome:
    """Reads what was recorded, and lets go of it."""
    return Outcome(planned.arrival, due_s, tuple(_read(each, due_s, planned) for each in attempts))


def _read(tried: Attempt[Recording], due_s: float, planned: PlannedRequest) -> Attempt[Answer]:
    result: Answer | Refusal | Failure
    if isinstance(tried.result, list):
        result = _answer(tried.result, due_s, planned.arrival.num_output_tokens)
    else:
        result = tried.result
    return Attempt(tried.due_s, tried.sent_s, tried.ended_s, result)


def _answer(recording: Recording, due_s: float, num_output_tokens: int) -> Answer | Failure:
    try:
        return read_answer(due_s, recording, num_output_tokens)
    except AnswerBroken as error:
        return Failure(f"{type(error).__name__}: {error}")
