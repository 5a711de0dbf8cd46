"""Owns one mixed-priority run, from the first answer to the last round. Knows no command line and writes no report."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.asking import PlannedRequest
from benchmarks.capacity import Capacity, measure_capacity
from benchmarks.load import prompt_of
from benchmarks.mixed_rounds import Phase, RoundPlan, Side, SideRound, first_answer, run_rounds, warm_up
from benchmarks.plan import Words, endless_arrivals, idle_arrivals, load_arrivals, mean_output_tokens
from fastserve.traffic_file import Traffic
from simulation.replay import Replay
from simulation.workload import Arrival

_WARM_UP_REQUESTS = 16
_GAUGED_WORDS = 256


@dataclass(frozen=True, slots=True)
class MixedLoad:
    """What is asked for. The rate is `rate_per_s`; or `load` times the capacity, which is measured; or that with which
    the trace began.

    idle_requests, idle_rate_per_s: of the most urgent class alone, before each loaded phase. level_s, max_clients: of
    the measurement of capacity.
    """

    traffic: Traffic
    replay: Replay | None
    rate_per_s: float | None
    load: float | None
    duration_s: float
    idle_requests: int
    idle_rate_per_s: float
    num_rounds: int
    seed: int
    level_s: float
    max_clients: int

    def rate(self, capacity: Capacity | None) -> float:
        """Requests a second."""
        if self.rate_per_s is not None:
            return self.rate_per_s
        if self.load is not None:
            assert capacity is not None, "a load is a multiple of a capacity"
            return self.load * capacity.knee.requests_per_s
        assert self.replay is not None, "a rate, a load or a trace is given"
        return self.replay.recorded_rate_per_s(self.duration_s)

    def arrivals_in_words(self, rate_per_s: float) -> str:
        over = "Poisson arrivals" if self.replay is None else self.replay.in_words(rate_per_s, self.duration_s)
        return f"{over}; classes and tenants by seed {self.seed} and, round by round, those after it"

    def round_plan(self, number: int, rate_per_s: float, words: Words) -> RoundPlan:
        """The same for the same number: every side is asked the same at the same times.

        Raises:
            TraceTooShort: see `Replay.piece`.
        """
        seed = self.seed + number
        idle = idle_arrivals(self.traffic, self.idle_requests, self.idle_rate_per_s, seed)
        load = load_arrivals(self.traffic, self.replay, rate_per_s, self.duration_s, seed)
        return RoundPlan(
            Phase("idle", list(words.planned(idle, f"idle {number}")), self.idle_requests / self.idle_rate_per_s),
            Phase("load", list(words.planned(load, f"load {number}")), self.duration_s),
        )


@dataclass(frozen=True, slots=True)
class MixedRun:
    """What it gave. rounds: by side, then by round."""

    tokens_per_word: float
    capacity: Capacity | None
    rate_per_s: float
    rounds: list[list[SideRound]]


def run_mixed(sides: Sequence[Side], load: MixedLoad, nonce: int, say: Callable[[str], None]) -> MixedRun:
    """First answers, warm-up, capacity, rounds. nonce: differs from run to run. say: told what begins.

    Raises:
        ServerFailed: a first request got no answer, or the capacity could not be measured.
        TraceTooShort: see `Replay.piece`.
    """
    words = Words(min(_tokens_per_word(side, load.traffic, nonce) for side in sides), nonce)
    for side in sides:
        say(f"{side.name}: warm-up")
        warm_up(side, list(itertools.islice(_endless(load, words, "warm-up"), _WARM_UP_REQUESTS)))
    capacity = None if load.load is None else _capacity(sides[0], load, words, say)
    rate_per_s = load.rate(capacity)
    rounds = run_rounds(sides, lambda number: load.round_plan(number, rate_per_s, words), load.num_rounds, say)
    return MixedRun(words.tokens_per_word, capacity, rate_per_s, rounds)


def _capacity(side: Side, load: MixedLoad, words: Words, say: Callable[[str], None]) -> Capacity:
    say(f"{side.name}: capacity, {load.level_s:g} s a level")
    return asyncio.run(
        measure_capacity(
            side.base_url,
            side.asking,
            _endless(load, words, "capacity"),
            mean_output_tokens(load.traffic, load.seed),
            load.level_s,
            load.max_clients,
        )
    )


def _endless(load: MixedLoad, words: Words, phase: str) -> Iterator[PlannedRequest]:
    return words.planned(endless_arrivals(load.traffic, load.seed), phase)


def _tokens_per_word(side: Side, traffic: Traffic, nonce: int) -> float:
    """As the service counts them in its first answer; a word is never less than a token."""
    urgent = traffic.most_urgent
    tenant = traffic.mix.tenants[0].name
    arrival = Arrival(0.0, _GAUGED_WORDS, 1, urgent.priority, urgent.name, tenant)
    prompt = prompt_of(_GAUGED_WORDS, random.Random(f"{nonce}/gauge"))
    return max(1.0, first_answer(side, PlannedRequest(arrival, prompt)).num_prompt_tokens / _GAUGED_WORDS)
