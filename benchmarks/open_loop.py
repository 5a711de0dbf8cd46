"""Owns sending each request at its own time, whatever became of those before. Judges nothing, not even itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.answers import Answer
from benchmarks.asking import Asking, PlannedRequest
from benchmarks.attempt import Attempt, Outcome, Recording, attempt, outcome
from benchmarks.connection_pool import ConnectionPool


@dataclass(frozen=True, slots=True)
class PhaseRun:
    """One schedule, sent. duration_s: of the schedule; answers may have come later. started_s: by the clock of the
    outcomes' times."""

    started_s: float
    duration_s: float
    outcomes: tuple[Outcome, ...]

    @property
    def output_tokens(self) -> float:
        """Tokens that came while the schedule lasted, of answers that became whole."""
        return sum(self.output_tokens_by_tenant().values())

    def output_tokens_by_tenant(self) -> dict[str, float]:
        """The same, for every tenant that asked."""
        ends_s = self.started_s + self.duration_s
        served = dict.fromkeys((each.arrival.tenant for each in self.outcomes), 0.0)
        for each in self.outcomes:
            if isinstance(each.result, Answer):
                served[each.arrival.tenant] += each.result.tokens_until(ends_s)
        return served


async def send_on_time(
    pool: ConnectionPool, asking: Asking, plan: Sequence[PlannedRequest], started_s: float
) -> list[Outcome]:
    """Every request of the plan, `at_s` after `started_s`; returns when the last answer has come or was given up.

    A request whose time has passed already is sent at once, and is late by as much: none is left out or moved.
    """
    async with asyncio.TaskGroup() as group:
        sent = []
        for planned in plan:
            due_s = started_s + planned.arrival.at_s
            await sleep_until(due_s)
            sent.append((planned, due_s, group.create_task(_see_through(pool, asking, planned, due_s))))
    return [outcome(planned, due_s, task.result()) for planned, due_s, task in sent]


async def sleep_until(at_s: float) -> None:
    remaining_s = at_s - time.perf_counter()
    if remaining_s > 0:
        await asyncio.sleep(remaining_s)


async def _see_through(
    pool: ConnectionPool, asking: Asking, planned: PlannedRequest, due_s: float
) -> list[Attempt[Recording]]:
    """One request up to its end. A client that comes back does so exactly when it was told, while it has time."""
    deadline_s = due_s + asking.request_timeout_s
    attempts = [await attempt(pool, asking, planned, due_s, deadline_s)]
    while asking.comes_back and (back_s := attempts[-1].returns_at_s) is not None and back_s < deadline_s:
        await sleep_until(back_s)
        attempts.append(await attempt(pool, asking, planned, back_s, deadline_s))
    return attempts
