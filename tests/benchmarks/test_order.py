"""What the order benchmark asks, what it serves, and what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.order import bodies, service_config
from benchmarks.order_report import OrderLoad, OrderReport
from benchmarks.report import write_report
from deployments.serve_config import load_serve_config
from tests.benchmarks.factories import MACHINE

LOAD = OrderLoad(num_requests=200, num_open=50, num_ingresses=4, num_replicas=3, num_slots=2, seed=1)


def make_order_report(**settings: Any) -> OrderReport:
    report = OrderReport(
        date="2026-01-31",
        command="python -m benchmarks.order",
        commit="0123456789ab",
        machine=MACHINE,
        load=LOAD,
        num_started=200,
        requests_per_s=98.76,
        num_inversions=0,
        smallest_slack_s=0.25,
        median_waiting=40,
        most_waiting=49,
        num_failed=0,
        failures=[],
    )
    return replace(report, **settings)


def test_the_same_seed_asks_the_same_and_another_does_not() -> None:
    assert list(bodies(LOAD)) == list(bodies(LOAD))
    assert list(bodies(LOAD)) != list(bodies(replace(LOAD, seed=2)))


def test_priorities_and_lengths_are_mixed() -> None:
    asked = list(bodies(LOAD))
    assert len(asked) == LOAD.num_requests
    assert {body["max_tokens"] for body in asked} == {1, 2, 3}
    assert {body["priority"] for body in asked} == set(range(-10, 11))


def test_the_service_takes_its_configuration_and_has_room_for_all_that_are_open(tmp_path: Path) -> None:
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(service_config(replace(LOAD, num_open=5_000))))
    loaded = load_serve_config(path)
    [model] = loaded.serving.models
    assert (model.backend, model.preemption, model.max_num_seqs) == ("fake", "off", 2)
    assert loaded.max_open_requests > 5_000


def test_the_page_shows_the_figures_and_where_they_come_from() -> None:
    page = make_order_report().to_markdown()
    assert "| requests/s | 98.8 |" in page
    assert "| inversions | 0 |" in page
    assert "| smallest slack of the bound on overtaking | 0.250000 s |" in page
    assert "- commit: `0123456789ab`" in page


def test_nobody_overtaken_is_no_figure() -> None:
    page = make_order_report(smallest_slack_s=None).to_markdown()
    assert "| smallest slack of the bound on overtaking | - |" in page


@pytest.mark.parametrize(
    ("found", "is_in_order"),
    [
        ({}, True),
        ({"smallest_slack_s": None}, True),
        ({"smallest_slack_s": -1e-6}, True),
        ({"smallest_slack_s": -1e-3}, False),
        ({"num_inversions": 1}, False),
        ({"num_failed": 1}, False),
    ],
)
def test_order_holds_without_inversion_failure_or_breach_beyond_rounding(
    found: dict[str, Any], is_in_order: bool
) -> None:
    assert make_order_report(**found).is_in_order is is_in_order


def test_the_json_holds_the_figures(tmp_path: Path) -> None:
    path = write_report(make_order_report(failures=["429: queue full"]), tmp_path, "order")
    document = json.loads(path.with_suffix(".json").read_text())
    assert (document["benchmark"], document["num_inversions"], document["load"]["num_open"]) == ("order", 0, 50)
    assert "- 429: queue full" in path.read_text()
