"""Bounds and Retry-After: what may wait, and an answer for those who may not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scheduling.admission import Admission, AdmissionBounds, ReleaseRate
from scheduling.errors import QueueFull, QueueTokensFull
from scheduling.queue import Backlog


def make_admission(releases_per_s: float | None = None, **bounds: Any) -> Admission:
    """An admission that has watched a minute of steady releases."""
    admission = Admission(AdmissionBounds(**bounds))
    if releases_per_s is not None:
        for _ in range(int(60 * releases_per_s)):
            admission.observe(1 / releases_per_s, 1)
    return admission


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


def test_as_many_may_wait_as_the_bound_says() -> None:
    admission = make_admission(max_waiting=2)
    assert not admission.is_exceeded_by(Backlog(num_waiting=2, num_tokens=200))
    assert admission.is_exceeded_by(Backlog(num_waiting=3, num_tokens=200))


def test_tokens_are_bounded_too_where_a_bound_is_set() -> None:
    admission = make_admission(max_waiting_tokens=300)
    assert not admission.is_exceeded_by(Backlog(num_waiting=2, num_tokens=300))
    assert admission.is_exceeded_by(Backlog(num_waiting=2, num_tokens=301))


def test_a_request_larger_than_the_token_bound_may_wait_alone() -> None:
    assert not make_admission(max_waiting_tokens=300).is_exceeded_by(Backlog(num_waiting=1, num_tokens=1_000))


def test_a_refusal_names_the_bound_that_was_reached() -> None:
    admission = make_admission(max_waiting=2, max_waiting_tokens=300)
    by_count = admission.refusal(Backlog(2, 20), now_s=0)
    by_tokens = admission.refusal(Backlog(1, 290), now_s=0)
    assert (type(by_count), by_count.num_waiting, by_count.max_waiting) == (QueueFull, 2, 2)
    assert (type(by_tokens), by_tokens.num_waiting, by_tokens.max_waiting) == (QueueTokensFull, 290, 300)


def test_the_rate_is_unknown_until_a_release_is_seen() -> None:
    rate = ReleaseRate()
    rate.observe(busy_s=10, num_released=0)
    assert rate.per_s is None


@pytest.mark.parametrize("per_s", [0.5, 1, 20])
def test_the_rate_of_steady_releases_is_found(per_s: float) -> None:
    rate = ReleaseRate()
    for _ in range(int(100 * per_s)):
        rate.observe(1 / per_s, 1)
    assert rate.per_s == pytest.approx(per_s, rel=0.05)


def test_the_first_minute_is_not_underestimated() -> None:
    rate = ReleaseRate()
    for _ in range(5):
        rate.observe(1.0, 2)
    assert rate.per_s == pytest.approx(2, rel=0.1)


def test_the_rate_follows_a_change_and_forgets_the_past() -> None:
    rate = ReleaseRate()
    for _ in range(100):
        rate.observe(1.0, 10)
    for _ in range(200):
        rate.observe(1.0, 1)
    assert rate.per_s == pytest.approx(1, rel=0.1)


def test_without_a_measured_rate_the_default_is_answered() -> None:
    assert make_admission(default_retry_after_s=7).refusal(Backlog(1, 1), now_s=0).retry_after_s == 7


def test_each_refused_client_is_told_a_release_of_its_own() -> None:
    admission = make_admission(releases_per_s=2)
    told = [admission.refusal(Backlog(1, 1), now_s=100).retry_after_s for _ in range(4)]
    assert told == pytest.approx([0.5, 1.0, 1.5, 2.0], rel=0.05)


def test_time_that_passes_works_off_the_booked_releases() -> None:
    admission = make_admission(releases_per_s=2)
    for _ in range(4):
        admission.refusal(Backlog(1, 1), now_s=100)
    assert admission.refusal(Backlog(1, 1), now_s=110).retry_after_s == pytest.approx(0.5, rel=0.05)


def test_the_answer_never_exceeds_its_limit() -> None:
    admission = make_admission(releases_per_s=1, max_retry_after_s=3)
    assert max(admission.refusal(Backlog(1, 1), now_s=0).retry_after_s for _ in range(100)) == 3
