"""What a mixed-priority run's results file says."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.attempt import Refusal
from benchmarks.capacity import Capacity, ClosedLevel
from benchmarks.load import Failure
from benchmarks.peers.pairs import Comparison
from benchmarks.report import write_report
from tests.benchmarks.factories import (
    make_answer,
    make_attempt,
    make_mixed_report,
    make_outcome,
    make_round,
    make_side_report,
)

CAPACITY = Capacity([ClosedLevel(4, 1.0, 137.0), ClosedLevel(8, 1.5, 205.5), ClosedLevel(16, 1.52, 208.2)])


def rows(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("|")]


def test_the_table_has_a_row_for_each_class_and_one_for_all() -> None:
    round_ = make_round(make_outcome(make_answer(0.5, 0.6), service_class="urgent"), make_outcome(Refusal(429, 2.0)))
    page = make_mixed_report(make_side_report(round_)).to_markdown()

    assert "| urgent | 1 | 1 | 0 | 0 | 500.0 | 500.0 | 500.0 | 100.0 | 100.0 | 100.0 | 1 | 0.100 |" in rows(page)
    assert "| standard | 1 | 0 | 1 | 0 | - | - | - | - | - | - | 0 | 0.000 |" in rows(page)
    assert "| all | 2 | 1 | 1 | 0 | 500.0 | 500.0 | 500.0 | 100.0 | 100.0 | 100.0 | 1 | 0.100 |" in rows(page)


def test_the_page_says_what_was_asked_for_and_what_made_it() -> None:
    page = make_mixed_report(settings={"max_num_seqs": 32}).to_markdown()

    assert "| urgent | 10% | 10 | 64 + 32 | 1 s | 0.2 s |" in rows(page)
    assert "Poisson arrivals; 2 requests/s, for 10 s; one round. A word counted as 1.25 tokens." in page
    assert "- command: `python -m benchmarks.mixed_priority`" in page
    assert '- model settings: `{"max_num_seqs": 32}`' in page


def test_a_load_is_quoted_with_the_capacity_that_it_is_a_multiple_of() -> None:
    page = make_mixed_report(load=2.0, rate_per_s=3.0, capacity=CAPACITY).to_markdown()

    assert "3 requests/s, 2 times the measured capacity" in page
    assert "Capacity, in a closed loop: 1.50 requests/s, at 8 clients." in page
    assert "| 16 | 1.52 | 208.2 |" in rows(page)


def test_refusals_returns_and_lateness_have_a_line_each() -> None:
    told = make_attempt(refused=429, retry_after_s=4.0)
    round_ = make_round(
        make_outcome(make_answer(9.0), told, make_attempt(4.0)),
        make_outcome(Failure("it broke"), make_attempt(5.0)),
    )
    page = make_mixed_report(make_side_report(round_, comes_back=True)).to_markdown()

    assert "- standard: 1 times 429, Retry-After p50 4 s, at most 4 s" in page
    assert "- of 1 told to come back, 1 did; admitted then: 100%; predicted over actual wait, median: 1.00" in page
    assert "- sender: late by p50 0.00, p99 0.00, at most 0.00 ms (p99 may be 10 ms)" in page
    assert "- failed: it broke" in page


def test_a_run_whose_sender_was_late_says_so_first() -> None:
    late = make_round(make_outcome(make_answer(1.0), make_attempt(late_s=0.5)))
    report = make_mixed_report(make_side_report(late))

    assert report.to_markdown().split("\n\n")[1].startswith("**Invalid: the sender did not keep to its schedule.**")
    assert "**Invalid" not in make_mixed_report().to_markdown()
    assert json.loads(report.to_json())["is_valid"] is False


def test_two_sides_stand_beside_each_other_with_their_ratios() -> None:
    report = make_mixed_report(
        make_side_report(),
        make_side_report(name="peer"),
        comparisons=[Comparison("urgent: TTFT p95, ms", [100.0, 50.0], [400.0, 400.0])],
    )

    assert "## peer" in report.to_markdown()
    assert "| urgent: TTFT p95, ms | 0.19 | 0.12 to 0.25 | 2 |" in rows(report.to_markdown())
    assert json.loads(report.to_json())["ratios"] == {"urgent: TTFT p95, ms": 0.1875}


def test_tenants_have_a_table_only_where_there_are_several() -> None:
    several = make_round(make_outcome(make_answer(1.0), tenant="a"), make_outcome(make_answer(1.0), tenant="b"))

    assert any(
        line.startswith("| tenant |") for line in rows(make_mixed_report(make_side_report(several)).to_markdown())
    )
    assert not any(line.startswith("| tenant |") for line in rows(make_mixed_report().to_markdown()))


def test_the_json_holds_every_number_and_no_prompt(tmp_path: Path) -> None:
    path = write_report(make_mixed_report(capacity=CAPACITY), tmp_path, "mixed-priority")
    document = json.loads(path.with_suffix(".json").read_text())

    assert (document["benchmark"], document["is_valid"], document["capacity_per_s"]) == ("mixed-priority", True, 1.5)
    assert [each["name"] for each in document["sides"][0]["classes"]] == ["urgent", "standard", "flex"]
    assert document["classes"][0]["objectives"] == {"ttft_s": 1.0, "tpot_s": 0.2}
