"""What the failover benchmark asks, and what it makes of what it reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.failover import Round, bodies, result_of, service_config
from benchmarks.failover_report import FailoverLoad, FailoverReport
from benchmarks.moved_stream import StreamRead
from deployments.serve_config import load_serve_config
from tests.benchmarks.factories import MACHINE

WHOLE = StreamRead("r1", "abc", 3, None, [0.0, 0.1, 0.2])


def test_half_of_what_is_asked_is_greedy_and_half_has_a_seed_of_its_own() -> None:
    asked = bodies(4, 32)
    assert [body["temperature"] for body in asked] == [0.0, 0.8, 0.0, 0.8]
    assert len({body["seed"] for body in asked}) == len({body["prompt"] for body in asked}) == 4


def test_the_added_delay_is_what_the_longest_gap_has_over_the_median() -> None:
    assert replace(WHOLE, arrivals_s=[0.0, 0.1, 0.2, 1.5, 1.6]).added_delay_s == pytest.approx(1.2)


@pytest.mark.parametrize("other", [{"text": "abbc"}, {"num_tokens": None}, {"error": "gone"}, {"num_tokens": 4}])
def test_a_stream_that_differs_in_anything_is_not_the_same(other: dict[str, object]) -> None:
    assert WHOLE.is_as(WHOLE)
    assert not replace(WHOLE, **other).is_as(WHOLE)  # type: ignore[arg-type]


def test_only_streams_of_the_lost_replica_count_as_moved() -> None:
    moved = replace(WHOLE, arrivals_s=[0.0, 0.5, 0.6, 0.7])
    stayed = replace(WHOLE, replica_id="r2", arrivals_s=[0.0, 0.1, 0.2, 0.4])
    result = result_of("rank", [WHOLE, WHOLE], [Round("r1", [moved, stayed])])
    assert (result.num_streams, result.num_same) == (2, 2)
    assert (result.delays_s, result.stayed_delays_s) == ([pytest.approx(0.4)], [pytest.approx(0.1)])


def test_a_report_says_whether_all_is_whole() -> None:
    good = result_of("rank", [WHOLE], [Round("r1", [WHOLE])])
    bad = result_of("replica", [WHOLE], [Round("r1", [replace(WHOLE, text="ab")])])
    load = FailoverLoad(16, 96, 2, {})
    report = FailoverReport("2026-01-31", "python -m benchmarks.failover", "0123", MACHINE, load, [good])
    assert report.is_whole
    assert "| rank | 1 | 1 | 1 | 0.00 s | 0.00 s | - | - |" in report.to_markdown()
    report = replace(report, victims=[good, bad])
    assert not report.is_whole
    assert "'ab' instead of 'abc'" in report.to_markdown()


def test_what_is_served_is_a_valid_configuration(tmp_path: Path) -> None:
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(service_config({"dtype": "float32"})))
    load_serve_config(path)
