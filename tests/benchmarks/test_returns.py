"""How honest a Retry-After was."""

from __future__ import annotations

import pytest

from benchmarks.attempt import Attempt, Outcome, Refusal
from benchmarks.returns import Returns, returns_of
from tests.benchmarks.factories import make_answer, make_attempt, make_outcome


def refused(at_s: float, retry_after_s: float | None, service_class: str = "standard") -> Outcome:
    told = make_attempt(at_s, refused=429, retry_after_s=retry_after_s)
    return make_outcome(Refusal(429, retry_after_s), told, service_class=service_class)


def admitted(at_s: float, service_class: str = "standard") -> Outcome:
    return make_outcome(make_answer(at_s + 1), make_attempt(at_s), service_class=service_class)


def returned(*attempts: Attempt) -> Outcome:
    return make_outcome(make_answer(20.0), *attempts)


def test_those_who_came_back_were_admitted_or_refused_again_at_their_first_return() -> None:
    first = make_attempt(0.0, refused=429, retry_after_s=4.0)
    found = returns_of(
        [[returned(first, make_attempt(4.0)), returned(first, make_attempt(4.0, refused=429)), refused(1.0, 9.0)]]
    )

    assert (found.num_told, found.num_returned, found.share_admitted) == (3, 2, 0.5)


def test_a_client_that_is_admitted_when_it_comes_back_was_sent_away_for_as_long_as_was_known_to_be_needed() -> None:
    found = returns_of([[returned(make_attempt(0.0, refused=429, retry_after_s=4.0), make_attempt(4.0))]])

    assert found == Returns(num_told=1, num_returned=1, share_admitted=1.0, num_judged=1, median_overestimate=1.0)


def test_an_admission_of_the_same_priority_before_the_return_shows_an_overestimate() -> None:
    assert returns_of([[refused(0.0, 10.0), admitted(2.5)]]).median_overestimate == pytest.approx(4.0)


def test_an_admission_after_the_return_shows_an_underestimate() -> None:
    assert returns_of([[refused(0.0, 1.0), admitted(4.0)]]).median_overestimate == pytest.approx(0.25)


def test_the_admission_of_someone_more_urgent_says_nothing() -> None:
    found = returns_of([[refused(0.0, 10.0, "standard"), admitted(1.0, "urgent"), admitted(5.0, "flex")]])

    assert found.median_overestimate == pytest.approx(2.0)


def test_an_admission_before_the_refusal_or_in_another_round_says_nothing() -> None:
    found = returns_of([[admitted(0.5), refused(1.0, 2.0)], [admitted(1.5)]])

    assert (found.num_judged, found.median_overestimate) == (0, None)


def test_the_median_is_of_all_that_can_be_judged() -> None:
    found = returns_of([[refused(0.0, 8.0), refused(2.0, 2.0), admitted(4.0), refused(5.0, 1.0)]])

    assert (found.num_told, found.num_judged, found.median_overestimate) == (3, 2, pytest.approx(1.5))


def test_a_refusal_that_names_no_time_is_not_judged() -> None:
    assert returns_of([[refused(0.0, None), admitted(1.0)]]) == Returns(0, 0, None, 0, None)
