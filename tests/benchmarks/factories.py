"""Builds answers, rounds and reports, with defaults for all that a test does not care about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.answers import Answer
from benchmarks.asking import PlannedRequest
from benchmarks.attempt import Attempt, Outcome, Refusal
from benchmarks.load import Failure, LevelRun, Workload
from benchmarks.mixed_report import MixedReport, class_facts
from benchmarks.mixed_rounds import SideRound
from benchmarks.open_loop import PhaseRun
from benchmarks.plan import SHIPPED
from benchmarks.report import HttpReport
from benchmarks.side_report import SideReport, side_report
from benchmarks.summary import summarise
from fastserve.machine import Machine
from fastserve.traffic_file import read_traffic
from simulation.objectives import Objectives
from simulation.workload import Arrival

MACHINE = Machine(2, "x86_64", ["avx512f", "avx512_bf16"], 24.0, [], "3.11.9", {"torch": "2.13.0"})


def make_workload(**settings: Any) -> Workload:
    return replace(Workload("stub", 5, 3, 2, request_timeout_s=10.0), **settings)


def make_answer(*text_times_s: float, started_s: float = 0.0, num_output_tokens: int | None = None) -> Answer:
    """Unless said otherwise, each event holds one token."""
    return Answer(started_s, text_times_s, 9, num_output_tokens or len(text_times_s))


def make_run(num_clients: int, *answers: Answer, took_s: float = 1.0, num_failed: int = 0) -> LevelRun:
    return LevelRun(num_clients, took_s, list(answers), [Failure("429: queue full")] * num_failed)


def make_report(**settings: Any) -> HttpReport:
    answers = [make_answer(0.1, 0.2, 0.4), make_answer(0.3, 0.4, 0.5)]
    report = HttpReport(
        date="2026-01-31",
        command="python -m benchmarks.http",
        commit="0123456789ab",
        machine=MACHINE,
        workload=make_workload(),
        num_rounds=2,
        settings={"max_num_seqs": 32},
        startup_s=41.26,
        levels=summarise([make_run(1, *answers), make_run(1, *answers, took_s=2.0), make_run(8, num_failed=2)]),
        failures=[],
    )
    return replace(report, **settings)


OBJECTIVES = {
    "urgent": Objectives(ttft_s=1.0, tpot_s=0.2),
    "standard": Objectives(ttft_s=5.0, tpot_s=0.5),
    "flex": Objectives(ttft_s=60.0, tpot_s=2.0),
}
PRIORITIES = {"urgent": 10.0, "standard": 0.0, "flex": -10.0}


def make_arrival(service_class: str = "standard", **settings: Any) -> Arrival:
    return replace(Arrival(0.0, 8, 3, PRIORITIES[service_class], service_class, "default"), **settings)


def make_planned(service_class: str = "standard", **settings: Any) -> PlannedRequest:
    return PlannedRequest(make_arrival(service_class, **settings), "river stone")


def make_attempt(
    due_s: float = 0.0,
    *,
    late_s: float = 0.0,
    ended_s: float | None = None,
    refused: int | None = None,
    retry_after_s: float | None = None,
) -> Attempt[Answer]:
    """Unless it was refused, with a status, it was answered."""
    result = make_answer(due_s + 1) if refused is None else Refusal(refused, retry_after_s)
    return Attempt(due_s, due_s + late_s, due_s + late_s if ended_s is None else ended_s, result)


def make_outcome(
    result: Answer | Refusal | Failure,
    *attempts: Attempt[Answer],
    service_class: str = "standard",
    tenant: str = "default",
) -> Outcome:
    """One attempt, on time, unless others are given; `result` is the last one's."""
    *before, last = attempts or (make_attempt(),)
    tried = (*before, replace(last, result=result))
    return Outcome(make_arrival(service_class, tenant=tenant), tried[0].due_s, tried)


def make_round(*outcomes: Outcome, idle: tuple[Outcome, ...] = (), duration_s: float = 10.0) -> SideRound:
    return SideRound(PhaseRun(0.0, duration_s, idle), PhaseRun(0.0, duration_s, outcomes))


def make_side_report(*rounds: SideRound, name: str = "service", comes_back: bool = False) -> SideReport:
    return side_report(name, rounds or (make_round(),), OBJECTIVES, "urgent", comes_back)


def make_mixed_report(*sides: SideReport, **settings: Any) -> MixedReport:
    report = MixedReport(
        date="2026-01-31",
        command="python -m benchmarks.mixed_priority",
        commit="0123456789ab",
        machine=MACHINE,
        model="stub",
        settings=None,
        arrivals="Poisson arrivals",
        classes=class_facts(read_traffic(SHIPPED)),
        tenants={"default": 1.0},
        duration_s=10.0,
        num_rounds=1,
        rate_per_s=2.0,
        load=None,
        capacity=None,
        tokens_per_word=1.25,
        idle_rate_per_s=1.0,
        sides=list(sides) or [make_side_report()],
        comparisons=[],
        smallest_slack_s=None,
    )
    return replace(report, **settings)
