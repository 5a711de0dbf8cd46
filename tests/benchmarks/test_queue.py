"""What the queue benchmark asks, what it measures in one process, and what it says."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.queue_in_process import measure_in_process
from benchmarks.queue_report import QueueLevel, QueueReport, Times
from benchmarks.queue_tickets import QueueLoad, registration, settings, tickets
from benchmarks.report import write_report
from tests.benchmarks.factories import MACHINE

LOAD = QueueLoad(num_waiting=20, num_grants=50, num_ingresses=2, num_replicas=2, num_slots=3, num_tenants=4, seed=1)


def test_the_same_seed_asks_the_same_and_another_does_not() -> None:
    first, again, other = (list(itertools.islice(tickets(load), 50)) for load in (LOAD, LOAD, replace(LOAD, seed=2)))
    assert first == again
    assert first != other
    assert {ticket.tenant for ticket in first} == {f"tenant-{number}" for number in range(4)}


def test_all_tickets_fit_into_every_replica_at_once() -> None:
    state = registration(LOAD, "replica").state
    largest = max(ticket.num_tokens for ticket in itertools.islice(tickets(LOAD), 1_000))
    assert largest <= state.max_model_len
    assert largest * LOAD.num_slots <= state.kv_tokens


def test_the_bounds_let_all_of_them_wait() -> None:
    assert settings(LOAD).bounds.max_waiting > LOAD.num_waiting + LOAD.num_replicas * LOAD.num_slots


@pytest.mark.parametrize("num_tenants", [1, 4])
def test_each_slot_that_is_freed_is_granted_and_timed(num_tenants: int) -> None:
    measured = asyncio.run(measure_in_process(replace(LOAD, num_tenants=num_tenants)))
    assert len(measured.grant_s) == LOAD.num_grants
    assert 0 < sum(measured.grant_s) <= measured.took_s


def test_times_are_percentiles_in_milliseconds() -> None:
    assert Times.of([number / 1000 for number in range(100, 0, -1)]) == Times(51.0, 100.0, 100.0)
    assert Times.of([0.25]) == Times(250.0, 250.0, 250.0)


def test_a_report_says_what_each_number_of_waiting_tickets_gave(tmp_path: Path) -> None:
    level = QueueLevel(10_000, 2_800.0, Times(0.12, 0.3, 1.0), 2_200.0, 490.0, Times(5.0, 20.0, 30.0))
    report = QueueReport("2026-01-31", "python -m benchmarks.queue", "0123", MACHINE, 50, 4, 3, 32, 8, 1, [level])

    path = write_report(report, tmp_path, "queue")

    assert "| 10,000 | 2,800 | 0.120 / 0.300 / 1.000 | 2,200 | 5.000 / 20.000 / 30.000 | 490 |" in path.read_text()
    assert json.loads(path.with_suffix(".json").read_text())["levels"][0]["decision"]["p99_ms"] == 0.3
