"""Bounds, predicted waits and Retry-After: what may wait, and an answer for those who may not that turns out right."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scheduling.admission import Admission, AdmissionBounds, reserved_for_others
from scheduling.errors import DeadlineUnmeetable, QueueFull, QueueTokensFull, WaitTooLong
from scheduling.queued import Backlog, QueuedTicket
from scheduling.score import ScorePolicy, Stamp
from scheduling.waiting_limits import WaitingLimits
from tests.factories import make_ticket

STRICT = ScorePolicy(name="strict")
COST = 100  # expected tokens of each request here


def make_admission(tokens_per_s: float | None = None, policy: ScorePolicy = STRICT, **bounds: Any) -> Admission:
    """An admission that has watched a minute of steady service."""
    admission = Admission(AdmissionBounds(**bounds), lambda: policy)
    if tokens_per_s is not None:
        for second in range(60):
            admission.rate.observe("r", int(second * tokens_per_s), float(second), is_busy=True)
    return admission


def newcomer(priority: float = 0, number: int = 1, **ticket: Any) -> QueuedTicket:
    made = make_ticket(f"lease-{number}", priority=priority, num_prompt_tokens=90, max_output_tokens=10, **ticket)
    return QueuedTicket(made, Stamp(priority, 0), "ingress", number)


def refusal(admission: Admission, backlog: Backlog, now_s: float = 0, number: int = 1) -> QueueFull:
    limits = admission.limits_for(newcomer(priority=1), reserved_for_others=0)
    return admission.refusal(newcomer(number=number), backlog, limits, now_s)


@pytest.mark.parametrize("name", ["max_waiting", "max_waiting_tokens"])
def test_a_bound_below_one_is_refused_by_name(name: str) -> None:
    bad: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        AdmissionBounds(**bad)


@pytest.mark.parametrize("name", ["default_retry_after_s", "max_retry_after_s"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_senseless_time_is_refused_by_name(name: str, value: float) -> None:
    bad: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name}: expected a finite number of seconds above 0"):
        AdmissionBounds(**bad)


@pytest.mark.parametrize("wait_s", [0, -1, math.nan])
def test_a_wait_that_nobody_could_keep_is_refused_by_name(wait_s: float) -> None:
    with pytest.raises(ValueError, match="flex: expected a number of seconds above 0"):
        AdmissionBounds(max_wait_s_by_class={"flex": wait_s})


def test_as_many_may_wait_as_the_bound_says() -> None:
    limits = WaitingLimits(max_waiting=2)
    assert not limits.are_exceeded_by(Backlog(num_waiting=2, num_tokens=200))
    assert limits.are_exceeded_by(Backlog(num_waiting=3, num_tokens=200))


def test_tokens_are_bounded_too_where_a_bound_is_set() -> None:
    limits = WaitingLimits(100, max_waiting_tokens=300)
    assert not limits.are_exceeded_by(Backlog(num_waiting=2, num_tokens=300))
    assert limits.are_exceeded_by(Backlog(num_waiting=2, num_tokens=301))


def test_a_request_larger_than_the_token_bound_may_wait_alone() -> None:
    assert not WaitingLimits(100, max_waiting_tokens=300).are_exceeded_by(Backlog(num_waiting=1, num_tokens=1_000))


def test_a_refusal_names_the_bound_that_was_reached() -> None:
    admission = make_admission(max_waiting=2, max_waiting_tokens=300)
    by_count, by_tokens = refusal(admission, Backlog(2, 20)), refusal(admission, Backlog(1, 290))
    assert (type(by_count), by_count.num_waiting, by_count.max_waiting) == (QueueFull, 2, 2)
    assert (type(by_tokens), by_tokens.num_waiting, by_tokens.max_waiting) == (QueueTokensFull, 290, 300)


def test_an_eighth_of_the_room_is_kept_for_those_above_standard() -> None:
    admission = make_admission(max_waiting=80, max_waiting_tokens=800)
    rooms = [
        (limits.max_waiting, limits.max_waiting_tokens)
        for limits in (admission.limits_for(newcomer(priority), reserved_for_others=0) for priority in (-5, 0, 1))
    ]
    assert rooms == [(70, 700), (70, 700), (80, 800)]


def test_half_of_the_room_is_shared_out_between_tenants_and_what_is_free_of_it_is_kept() -> None:
    weights = {"a": 1.0, "b": 3.0}
    assert reserved_for_others("a", 80, weights, {"a": 60}) == 30
    assert reserved_for_others("a", 80, weights, {"a": 60, "b": 12}) == 18
    assert reserved_for_others("b", 80, weights, {"a": 60, "b": 12}) == 0
    assert reserved_for_others("a", 80, {"a": 1.0}, {"a": 60}) == 0


def test_the_wait_is_the_work_ahead_and_ones_own_over_what_is_served() -> None:
    assert make_admission(tokens_per_s=50).wait_s(newcomer(), 900, 60) == pytest.approx(20)


def test_nothing_is_refused_for_its_wait_before_anything_was_measured() -> None:
    make_admission(max_wait_s=0.001).check_wait(newcomer(deadline_s=0.001), 1e9, 1e9, 0)


def test_one_that_would_wait_too_long_is_refused_and_told_when_it_would_not() -> None:
    admission = make_admission(tokens_per_s=50, max_wait_s=30)
    admission.check_wait(newcomer(), 1_400, 1_400, 60)
    with pytest.raises(WaitTooLong) as refused:
        admission.check_wait(newcomer(), 1_900, 1_900, 60)
    assert (refused.value.predicted_wait_s, refused.value.max_wait_s) == (pytest.approx(40), 30)
    assert refused.value.retry_after_s == 10


def test_a_class_may_have_a_bound_of_its_own() -> None:
    admission = make_admission(tokens_per_s=50, max_wait_s=30, max_wait_s_by_class={"urgent": 5})
    with pytest.raises(WaitTooLong):
        admission.check_wait(newcomer(service_class="urgent"), 400, 400, 60)


def test_a_deadline_that_cannot_be_met_is_refused_at_the_door() -> None:
    admission = make_admission(tokens_per_s=50)
    admission.check_wait(newcomer(deadline_s=21), 900, 900, 60)
    with pytest.raises(DeadlineUnmeetable) as refused:
        admission.check_wait(newcomer(deadline_s=19), 900, 900, 60)
    assert refused.value.predicted_wait_s == pytest.approx(20)


def test_higher_priorities_that_keep_arriving_leave_less_of_the_rate() -> None:
    admission = make_admission(tokens_per_s=50)
    for number in range(600):
        admission.let_in(newcomer(priority=5), 60 + number * 5)  # twenty tokens a second
    now_s = 60 + 599 * 5
    assert admission.wait_s(newcomer(), 900, now_s) == pytest.approx(1_000 / 30, rel=0.15)
    assert admission.wait_s(newcomer(priority=5), 900, now_s) == pytest.approx(20)


def test_without_a_measured_rate_the_default_is_answered() -> None:
    assert refusal(make_admission(default_retry_after_s=7), Backlog(1, 1)).retry_after_s == 7


def test_each_refused_client_is_told_a_time_of_its_own() -> None:
    admission = make_admission(tokens_per_s=50, max_waiting=1)
    assert [refusal(admission, Backlog(2, 1), now_s=100).retry_after_s for _ in range(4)] == [2, 4, 6, 8]


def test_the_answer_never_exceeds_its_limit() -> None:
    admission = make_admission(tokens_per_s=50, max_retry_after_s=3)
    assert max(refusal(admission, Backlog(1, 1)).retry_after_s for _ in range(100)) == 3


def test_whoever_comes_when_it_was_told_to_is_let_in_before_those_who_come_anew() -> None:
    admission = make_admission(tokens_per_s=50, max_wait_s=30)
    with pytest.raises(WaitTooLong) as refused:
        admission.check_wait(newcomer(), 1_900, 1_900, 60)
    assert admission.num_promised(newcomer(number=2)) == COST
    assert admission.claim(newcomer(number=3), 60 + refused.value.retry_after_s)


def test_all_choices_of_a_request_come_back_with_the_one_that_was_told_the_earliest_time() -> None:
    admission = make_admission(tokens_per_s=50, max_waiting=1)
    told_s = [refusal(admission, Backlog(2, 1), now_s=100).retry_after_s for _ in range(3)]
    again = [newcomer(number=number, request_id="again") for number in range(4)]
    assert told_s == [2, 4, 6]
    assert [admission.claim(each, 102) for each in again] == [True, True, True, False]
    assert not admission.claim(newcomer(number=9, request_id="another"), 102)
