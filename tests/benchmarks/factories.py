"""Builds answers, rounds and reports, with defaults for all that a test does not care about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.answers import Answer
from benchmarks.load import Failure, LevelRun, Workload
from benchmarks.machine import Machine
from benchmarks.report import HttpReport
from benchmarks.summary import summarise

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
