"""`fastserve simulate`, from its arguments to its files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastserve.cli import app
from fastserve.costs_file import write_costs
from tests.fastserve.test_costs_file import COSTS

ROOT = Path(__file__).parents[2]
CONFIG, TRAFFIC = str(ROOT / "serve_config.yaml"), str(ROOT / "benchmarks/traffic.yaml")
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    costs = folder / "costs.json"
    write_costs(COSTS, costs)
    given = [
        *("simulate", CONFIG, "--costs", str(costs), "--workload", TRAFFIC, "--out", str(folder / "page.html")),
        *("--what-if", "room: model.kv_cache_tokens=65536"),
        *arguments,
    ]
    done = CliRunner().invoke(app, given, env={"COLUMNS": "200"})
    return done.exit_code, done.output


def figures(folder: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((folder / "page.json").read_text())
    return document


def test_configurations_are_played_beside_each_other(tmp_path: Path) -> None:
    code, output = run(tmp_path, "--rate", "0.5", "--duration-s", "60")
    assert code == 0, output
    assert "serve_config.yaml" in output
    assert "room" in output
    document = figures(tmp_path)
    assert [each["name"] for each in document["runs"]] == ["serve_config.yaml", "room"]  # type: ignore[attr-defined]
    assert "Poisson arrivals, 0.5 requests/s for 60 s" in str(document["load"])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    assert "date: 2026-01-31" in page
    assert re.search(r"room: \d+ requests and [\d,]+ steps of at most 1 replicas played in \d+\.\d s of one core", page)


def test_a_closed_loop_asks_again_until_its_time_is_over(tmp_path: Path) -> None:
    code, output = run(tmp_path, "--clients", "2", "--duration-s", "30", "--rounds", "2")
    assert code == 0, output
    assert "2 clients that each wait for their answer" in str(figures(tmp_path)["load"])


def test_a_trace_is_played_whole_or_at_a_rate(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = "".join(f"2023-11-16 18:15:{second:02}.0,{100 + second},{5 + second}\n" for second in range(20))
    trace.write_text(AZURE + rows)
    code, output = run(tmp_path, "--trace", str(trace))
    assert code == 0, output
    assert "All 20 requests of trace.csv" in str(figures(tmp_path)["load"])
    assert figures(tmp_path)["runs"][0]["total"]["num_requests"] == 20  # type: ignore[index]
    code, output = run(tmp_path, "--trace", str(trace), "--rate", "2", "--duration-s", "5", "--class-lengths")
    assert code == 0, output
    assert "The first 10 requests of `trace.csv`" in str(figures(tmp_path)["load"])


def test_a_run_is_held_against_what_was_measured(tmp_path: Path) -> None:
    measured = tmp_path / "measured.json"
    side = {
        "classes": [{"name": "urgent", "ttft": {"p50_ms": 100.0, "p95_ms": 150.0, "p99_ms": 200.0}}],
        "output_tokens_per_s": 50.0,
    }
    measured.write_text(json.dumps({"benchmark": "mixed-priority", "sides": [side]}))
    code, output = run(tmp_path, "--rate", "0.5", "--duration-s", "60", "--measured", str(measured))
    assert code == 0, output
    assert "serve_config.yaml beside measured.json" in output
    likeness = figures(tmp_path)["likeness"]
    assert [each["what"] for each in likeness] == [  # type: ignore[attr-defined]
        "urgent, TTFT p50",
        "urgent, TTFT p99",
        "output tokens/s",
    ]
    assert "beside measured.json" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--rate, --clients, --trace: got None; expected a rate, a number of clients, or a trace"),
        (("--rate", "1", "--clients", "2"), "got '--rate 1.0, --clients 2'"),
        (("--rate", "1", "--deadline", "urgent"), "--deadline: got 'urgent'; expected CLASS=SECONDS"),
        (("--rate", "1", "--deadline", "vip=3"), "expected one of the classes urgent, standard, flex"),
        (("--rate", "1", "--deadline", "urgent=-3"), "deadlines_s.urgent: expected a finite number above 0"),
        (("--rate", "1", "--what-if", "beta=3"), "--what-if: got 'beta=3'"),
        (("--rate", "0.001", "--duration-s", "0.1"), "expected at least one request, got none"),
        (("--rate", "1", "--measured", CONFIG), "expected results of `python -m benchmarks.mixed_priority`, as JSON"),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    code, output = run(tmp_path, *arguments)
    assert (code, said in " ".join(output.split())) == (1, True), output


def test_deadlines_retries_and_allowances_reach_the_clients(tmp_path: Path) -> None:
    busy = ("--rate", "20", "--duration-s", "20", "--what-if", "short queue: user_config.bounds.max_waiting=2")
    code, output = run(tmp_path, *busy, "--deadline", "urgent=0.05", "--retries", "1", "--allowed-tokens", "400")
    assert code == 0, output
    outcomes = [each["total"]["outcomes"] for each in figures(tmp_path)["runs"]]  # type: ignore[attr-defined]
    assert all("late" in each for each in outcomes)
    assert any("refused" in each for each in outcomes)
