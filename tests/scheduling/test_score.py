"""The score and the stamp: one key that never changes while a request waits."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.score import ScorePolicy, Stamp

WALL_CLOCK_S = 1.7e9
priorities = st.floats(min_value=-100, max_value=100)
arrivals = st.floats(min_value=WALL_CLOCK_S, max_value=WALL_CLOCK_S + 1e6)
stamps = st.builds(Stamp, priorities, arrivals, st.floats(min_value=0, max_value=1e4))
policies = st.builds(ScorePolicy, st.floats(min_value=0, max_value=10), st.floats(min_value=0.01, max_value=10))


def test_higher_priority_runs_sooner() -> None:
    policy = ScorePolicy()
    assert policy.key(Stamp(priority=1, arrival_s=0)) > policy.key(Stamp(priority=0, arrival_s=0))


def test_waiting_long_enough_beats_priority() -> None:
    policy = ScorePolicy(alpha=1, beta=0.1)
    urgent = Stamp(priority=5, arrival_s=51)
    assert policy.key(Stamp(priority=0, arrival_s=0)) > policy.key(urgent)
    assert policy.key(Stamp(priority=0, arrival_s=2)) < policy.key(urgent)


def test_a_penalty_counts_as_arriving_later() -> None:
    policy = ScorePolicy()
    assert policy.key(Stamp(0, arrival_s=10, penalty_s=5)) == policy.key(Stamp(0, arrival_s=15))


def test_the_default_level_is_worth_ten_seconds() -> None:
    assert ScorePolicy().head_start_s(1) == pytest.approx(10)


@pytest.mark.parametrize(("levels", "head_start_s"), [(1, math.inf), (-1, -math.inf), (0, 0)])
def test_without_beta_any_level_is_worth_for_ever_and_none_nothing(levels: float, head_start_s: float) -> None:
    assert ScorePolicy(alpha=1, beta=0).head_start_s(levels) == head_start_s


def test_without_alpha_a_level_is_worth_nothing() -> None:
    assert ScorePolicy(alpha=0, beta=1).head_start_s(100) == 0


@given(policies, stamps, stamps, st.floats(min_value=0, max_value=1e6))
def test_the_key_orders_two_requests_as_their_scores_do_at_any_time(
    policy: ScorePolicy, one: Stamp, other: Stamp, waited_s: float
) -> None:
    now_s = WALL_CLOCK_S + 1e6 + waited_s
    by_key = policy.key(one) - policy.key(other)
    by_score = policy.score(one, now_s) - policy.score(other, now_s)
    assert by_key == pytest.approx(by_score, abs=1e-5)


@given(policies, priorities, arrivals, arrivals)
def test_among_equals_the_earlier_never_has_the_lower_key(
    policy: ScorePolicy, priority: float, one_s: float, other_s: float
) -> None:
    earlier, later = sorted((one_s, other_s))
    assert policy.key(Stamp(priority, earlier)) >= policy.key(Stamp(priority, later))


@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_senseless_weight_is_refused_by_name(name: str, value: float) -> None:
    bad: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name}: expected"):
        ScorePolicy(**bad)


def test_both_weights_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one must be above 0"):
        ScorePolicy(alpha=0, beta=0)


@pytest.mark.parametrize("name", ["priority", "arrival_s", "penalty_s"])
def test_a_stamp_that_would_have_no_place_is_refused(name: str) -> None:
    bad: dict[str, Any] = {"priority": 0, "arrival_s": 0, name: math.nan}
    with pytest.raises(ValueError, match=f"{name}: expected a finite number, got nan"):
        Stamp(**bad)


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="penalty_s: expected at least 0, got -1"):
        Stamp(priority=0, arrival_s=0, penalty_s=-1)
