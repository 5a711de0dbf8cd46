"""What each class and each tenant got."""

from __future__ import annotations

import pytest

from benchmarks.attempt import Outcome, Refusal
from benchmarks.class_report import GroupReport, RefusalCount, Times, by_class, by_tenant, group_report
from benchmarks.load import Failure
from tests.benchmarks.factories import OBJECTIVES, make_answer, make_attempt, make_outcome


def report(*outcomes: Outcome, duration_s: float = 10.0) -> GroupReport:
    return group_report("all", outcomes, OBJECTIVES, duration_s)


def test_every_request_is_counted_once_by_its_end() -> None:
    found = report(make_outcome(make_answer(1.0)), make_outcome(Refusal(429, 1.0)), make_outcome(Failure("broke")))

    assert (found.offered, found.completed, found.refused, found.failed) == (3, 1, 1, 1)


def test_times_are_of_answers_alone() -> None:
    answers = [make_answer(float(number), number + 1.0) for number in range(1, 102)]

    found = report(*map(make_outcome, answers), make_outcome(Refusal(429, 1.0)))

    assert found.ttft == Times(51_000, 96_000, 100_000)
    assert found.tpot == Times(1000, 1000, 1000)


def test_tpot_is_the_mean_over_the_tokens_after_the_first_and_missing_where_there_is_only_one() -> None:
    assert report(make_outcome(make_answer(1.0, 2.0, 4.0))).tpot.p50_ms == pytest.approx(1500)
    assert report(make_outcome(make_answer(1.0, 4.0, num_output_tokens=4))).tpot.p50_ms == pytest.approx(1000)
    assert report(make_outcome(make_answer(1.0))).tpot.p50_ms is None


def test_nothing_answered_has_no_times() -> None:
    found = report(make_outcome(Refusal(503, None)))

    assert found.ttft == Times(None, None, None)
    assert found.mean_prompt_tokens is None
    assert found.goodput_per_s == 0


def test_goodput_is_what_met_every_objective_of_its_own_class() -> None:
    slow_start, slow_tokens, good = make_answer(2.0, 2.1), make_answer(0.5, 2.0), make_answer(0.5, 0.6)

    urgent = report(*(make_outcome(each, service_class="urgent") for each in (slow_start, slow_tokens, good)))
    flex = report(*(make_outcome(each, service_class="flex") for each in (slow_start, slow_tokens, good)))

    assert (urgent.num_in_time, urgent.goodput_per_s) == (1, pytest.approx(0.1))
    assert (flex.num_in_time, flex.goodput_per_s) == (3, pytest.approx(0.3))


def test_refusals_are_counted_by_status_also_those_of_clients_that_were_answered_later() -> None:
    def refusal(status: int, retry_after_s: float | None) -> object:
        return make_attempt(refused=status, retry_after_s=retry_after_s)

    found = report(
        make_outcome(make_answer(9.0), refusal(429, 4.0), refusal(429, 6.0), make_attempt()),
        make_outcome(Refusal(408, None), refusal(408, None)),
    )

    assert found.refusals == [RefusalCount(408, 1, None, None), RefusalCount(429, 2, 5.0, 6.0)]
    assert (found.completed, found.refused) == (1, 1)


def test_classes_stand_in_the_order_of_their_objectives_also_those_that_nobody_asked_for() -> None:
    reports = by_class([make_outcome(make_answer(1.0), service_class="flex")], OBJECTIVES, 10.0)

    assert [(each.name, each.offered) for each in reports] == [("urgent", 0), ("standard", 0), ("flex", 1)]


def test_tenants_are_told_apart_only_where_there_are_several() -> None:
    ours = [make_outcome(make_answer(1.0), tenant="b"), make_outcome(make_answer(1.0), tenant="a")]

    assert [(each.name, each.offered) for each in by_tenant(ours, OBJECTIVES, 10.0)] == [("a", 1), ("b", 1)]
    assert by_tenant(ours[:1], OBJECTIVES, 10.0) == []
