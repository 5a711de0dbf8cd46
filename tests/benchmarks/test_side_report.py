"""All rounds of one service together, and two services beside each other."""

from __future__ import annotations

import pytest

from benchmarks.attempt import Outcome, Refusal
from benchmarks.load import Failure
from benchmarks.side_report import compared
from tests.benchmarks.factories import make_answer, make_attempt, make_outcome, make_round, make_side_report


def urgent(ttft_s: float) -> Outcome:
    return make_outcome(make_answer(ttft_s, ttft_s + 0.1), service_class="urgent")


def test_the_urgent_class_under_load_is_quoted_as_a_multiple_of_itself_alone() -> None:
    report = make_side_report(make_round(urgent(0.6), urgent(0.6), idle=(urgent(0.2),)))

    assert report.idle.name == "urgent"
    assert (report.slowdown.p50, report.slowdown.p99) == (pytest.approx(3.0), pytest.approx(3.0))


def test_without_an_answer_on_either_side_there_is_no_multiple() -> None:
    assert make_side_report(make_round(urgent(0.6))).slowdown.p50 is None
    assert make_side_report(make_round(idle=(urgent(0.2),))).slowdown.p50 is None


def test_how_much_later_the_urgent_class_starts_under_load_is_quoted_in_median_times_between_tokens() -> None:
    slow = make_outcome(make_answer(1.0, 1.2, 1.4), service_class="flex")
    report = make_side_report(make_round(urgent(0.6), slow, slow, idle=(urgent(0.2),)))

    assert report.urgent_late_steps == pytest.approx((0.6 - 0.2) / 0.2)
    assert make_side_report(make_round(urgent(0.6))).urgent_late_steps is None


def test_the_tenants_shares_of_what_was_served_are_quoted_as_one_figure_of_fairness() -> None:
    def served(tenant: str, num_tokens: int) -> Outcome:
        return make_outcome(make_answer(*(1.0 + number for number in range(num_tokens))), tenant=tenant)

    assert make_side_report(make_round(served("a", 4), served("b", 4))).jain_index == pytest.approx(1.0)
    assert make_side_report(make_round(served("a", 6), served("b", 2))).jain_index == pytest.approx(64 / 80)
    assert make_side_report(make_round(served("a", 6))).jain_index is None


def test_a_tenant_that_got_nothing_counts_against_fairness() -> None:
    refused = make_outcome(Refusal(429, 2.0), tenant="b")
    assert make_side_report(make_round(make_outcome(make_answer(1.0), tenant="a"), refused)).jain_index == 0.5


def test_rounds_are_counted_together_and_rates_by_their_median() -> None:
    rounds = [make_round(*[urgent(0.5)] * number, duration_s=10.0) for number in (1, 2, 6)]
    report = make_side_report(*rounds)

    assert report.total.offered == 9
    assert report.total.goodput_per_s == pytest.approx(9 / 30)
    assert report.output_tokens_per_s_by_round == pytest.approx([0.2, 0.4, 1.2])
    assert report.output_tokens_per_s == pytest.approx(0.4)


def test_a_late_sender_makes_the_run_invalid_in_either_phase() -> None:
    late = make_outcome(make_answer(1.0), make_attempt(late_s=0.02))

    assert make_side_report(make_round(urgent(0.5))).is_valid
    assert not make_side_report(make_round(late)).is_valid
    assert not make_side_report(make_round(idle=(late,))).is_valid


def test_returns_are_reported_only_where_clients_came_back() -> None:
    refused = make_outcome(Refusal(429, 2.0), make_attempt(refused=429, retry_after_s=2.0))

    assert make_side_report(make_round(refused)).returns is None
    returns = make_side_report(make_round(refused), comes_back=True).returns
    assert returns is not None
    assert returns.num_told == 1


def test_reasons_of_failures_stand_once_from_both_phases() -> None:
    broke, gone = make_outcome(Failure("broke")), make_outcome(Failure("gone"))

    assert make_side_report(make_round(broke, broke, idle=(gone,))).failures == ["gone", "broke"]


def test_two_sides_are_compared_round_by_round() -> None:
    ours = [make_side_report(make_round(urgent(ttft_s))) for ttft_s in (0.1, 0.3)]
    peers = [make_side_report(make_round(urgent(ttft_s))) for ttft_s in (0.4, 0.4)]

    found = {each.measure: each for each in compared(ours, peers)}

    assert found["urgent: TTFT p50, ms"].ratios == pytest.approx([0.25, 0.75])
    assert found["urgent: TTFT p50, ms"].ratio == pytest.approx(0.5)
    assert found["all: goodput, requests/s"].ratios == pytest.approx([1.0, 1.0])


def test_a_round_without_a_figure_is_left_out_of_that_measure_alone() -> None:
    ours = [make_side_report(make_round(urgent(0.1))), make_side_report(make_round())]
    peers = [make_side_report(make_round(urgent(0.2)))] * 2

    found = {each.measure: each for each in compared(ours, peers)}

    assert found["urgent: TTFT p50, ms"].ratios == pytest.approx([0.5])
    assert found["urgent: goodput, requests/s"].ratios == pytest.approx([1.0, 0.0])
    assert "flex: TTFT p50, ms" not in found
