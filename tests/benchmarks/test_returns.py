"""How honest a Retry-After was."""

from __future__ import annotations

import pytest

from benchmarks.answers import Answer
from benchmarks.attempt import Attempt, Outcome, Refusal
from benchmarks.returns import Returns, returns_of
from tests.benchmarks.factories import make_answer, make_attempt, make_outcome


def refused(
    at_s: float, retry_after_s: float | None, *returns: Attempt[Answer], service_class: str = "standard"
) -> Outcome:
    told = make_attempt(at_s, refused=429, retry_after_s=retry_after_s)
    result = make_answer(99.0) if returns else Refusal(429, retry_after_s)
    return make_outcome(result, told, *returns, service_class=service_class)


def admitted(at_s: float, service_class: str = "standard") -> Outcome:
    return make_outcome(make_answer(99.0), make_attempt(at_s), service_class=service_class)


def test_those_who_came_back_were_admitted_or_refused_again_at_their_first_return() -> None:
    again = refused(0.0, 4.0, make_attempt(4.0, refused=429, retry_after_s=1.0), make_attempt(5.0))
    found = returns_of([[refused(0.0, 4.0, make_attempt(4.0)), again, refused(1.0, 9.0)]])

    assert (found.num_told, found.num_returned, found.share_admitted) == (3, 2, 0.5)


def test_a_client_that_alone_comes_back_and_is_admitted_was_told_the_wait_that_was_needed() -> None:
    found = returns_of([[refused(0.0, 4.0, make_attempt(4.0))]])

    assert found == Returns(num_told=1, num_returned=1, share_admitted=1.0, num_judged=1, median_overestimate=1.0)


def test_a_later_request_of_the_class_that_was_admitted_sooner_shows_an_overestimate() -> None:
    found = returns_of([[refused(0.0, 10.0, make_attempt(10.0)), admitted(2.5)]])

    assert found.median_overestimate == pytest.approx(4.0)


def test_a_client_that_is_refused_again_shows_an_underestimate() -> None:
    twice = refused(0.0, 1.0, make_attempt(1.0, refused=429, retry_after_s=3.0), make_attempt(4.0))

    assert returns_of([[twice]]).median_overestimate == pytest.approx(0.25)


def test_one_admission_is_counted_for_one_request_alone() -> None:
    """Both were told when a place was theirs: the admission after 1 s was the first one's, not both's."""
    found = returns_of([[refused(0.0, 1.0, make_attempt(1.0)), refused(0.0, 2.0, make_attempt(2.0))]])

    assert (found.num_judged, found.median_overestimate) == (2, pytest.approx(1.0))


def test_another_class_and_another_round_say_nothing() -> None:
    found = returns_of([[refused(0.0, 10.0), admitted(1.0, "urgent"), admitted(1.0, "flex")], [admitted(1.0)]])

    assert (found.num_told, found.num_judged, found.median_overestimate) == (1, 0, None)


def test_a_refusal_that_names_no_time_is_not_judged() -> None:
    assert returns_of([[refused(0.0, None), admitted(1.0)]]) == Returns(0, 0, None, 0, None)


def test_a_request_that_was_shed_after_its_turn_had_come_is_not_judged() -> None:
    shed = make_outcome(Refusal(429, 5.0), make_attempt(0.0, ended_s=9.0, refused=429, retry_after_s=5.0))

    assert returns_of([[shed, admitted(1.0)]]).num_judged == 0
