"""Owns the order of a mixed-priority run: warm-up, then rounds of an idle phase and a loaded one, the sides in turn.
Draws no schedule and judges nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.answers import Answer
from benchmarks.asking import Asking, PlannedRequest
from benchmarks.attempt import Outcome
from benchmarks.connection_pool import ConnectionPool
from benchmarks.open_loop import PhaseRun, send_on_time
from benchmarks.peers.pairs import in_turn
from benchmarks.undisturbed import without_collections
from fastserve.errors import ServerFailed

_LEAD_S = 0.1  # before a schedule's first request


@dataclass(frozen=True, slots=True)
class Side:
    """One service under test."""

    name: str
    base_url: str
    asking: Asking


@dataclass(frozen=True, slots=True)
class Phase:
    """A schedule. name: in words, for who watches."""

    name: str
    requests: Sequence[PlannedRequest]
    duration_s: float


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """What every side is asked in one round."""

    idle: Phase
    load: Phase


@dataclass(frozen=True, slots=True)
class SideRound:
    """What one round gave one side."""

    idle: PhaseRun
    load: PhaseRun


def run_rounds(
    sides: Sequence[Side], plan_of: Callable[[int], RoundPlan], num_rounds: int, say: Callable[[str], None]
) -> list[list[SideRound]]:
    """By side, then by round. Two sides take turns, A B B A ..., and each gets the same plan in the same round.

    plan_of: the plan of a round, by its number from 0. say: told what begins.
    """

    def turn_of(side: Side) -> Callable[[int], SideRound]:
        return lambda number: _round(
            side, plan_of(number), lambda phase: say(f"round {number + 1}, {side.name}: {phase}")
        )

    if len(sides) == 1:
        return [[turn_of(sides[0])(number) for number in range(num_rounds)]]
    ours, peer = sides
    pairs = in_turn(num_rounds, turn_of(ours), turn_of(peer))
    return [[own for own, _ in pairs], [other for _, other in pairs]]


def first_answer(side: Side, planned: PlannedRequest) -> Answer:
    """The answer to one request alone.

    Raises:
        ServerFailed: there is none.
    """
    (only,) = asyncio.run(_sent(side, [planned]))
    if not isinstance(only.result, Answer):
        raise ServerFailed(f"the first request to {side.base_url}: {only.result}")
    return only.result


def warm_up(side: Side, requests: Sequence[PlannedRequest]) -> None:
    """All at once; nobody counts the answers."""
    asyncio.run(_sent(side, requests))


def _round(side: Side, plan: RoundPlan, say: Callable[[str], None]) -> SideRound:
    return SideRound(_phase(side, plan.idle, say), _phase(side, plan.load, say))


def _phase(side: Side, phase: Phase, say: Callable[[str], None]) -> PhaseRun:
    say(f"{phase.name}, {len(phase.requests)} requests in {phase.duration_s:.0f} s")
    with without_collections():
        started_s = time.perf_counter() + _LEAD_S
        outcomes = asyncio.run(_sent(side, phase.requests, started_s))
    return PhaseRun(started_s, phase.duration_s, tuple(outcomes))


async def _sent(side: Side, requests: Sequence[PlannedRequest], started_s: float | None = None) -> list[Outcome]:
    with contextlib.closing(ConnectionPool(side.base_url)) as pool:
        return await send_on_time(pool, side.asking, requests, started_s or time.perf_counter())
