"""The bound on overtaking: it is what the key order allows, and the monitor would notice a breach."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scheduling.overtaking import OvertakingMonitor, may_overtake, overtaking_slack_s
from scheduling.request import Grant
from scheduling.score import ScorePolicy, Stamp

POLICY = ScorePolicy(alpha=1, beta=0.1)  # a level is ten seconds
arrivals = st.floats(min_value=0, max_value=1000)
stamps = st.builds(Stamp, st.integers(-10, 10), arrivals, st.floats(min_value=0, max_value=100))


def grant(stamp: Stamp, policy: ScorePolicy = POLICY) -> Grant:
    return Grant("lease-1", "replica-1", stamp, policy, granted_s=stamp.arrival_s)


@pytest.mark.parametrize(("arrival_s", "allowed"), [(19, True), (21, False)])
def test_two_levels_are_a_head_start_of_twenty_seconds_and_no_more(arrival_s: float, allowed: bool) -> None:
    assert may_overtake(Stamp(2, arrival_s), Stamp(0, 0), POLICY) is allowed


def test_an_equal_may_not_overtake() -> None:
    assert not may_overtake(Stamp(0, 5), Stamp(0, 0), POLICY)
    assert not may_overtake(Stamp(0, 0), Stamp(0, 0), POLICY)


def test_a_penalty_lets_others_pass_by_as_many_seconds() -> None:
    assert overtaking_slack_s(Stamp(0, 5), Stamp(0, 0, penalty_s=8), POLICY) == pytest.approx(3)


def test_a_margin_widens_the_bound_by_its_worth_in_seconds() -> None:
    assert overtaking_slack_s(Stamp(0, 5), Stamp(0, 0), POLICY, margin=1) == pytest.approx(5)


def test_without_beta_there_is_no_bound() -> None:
    assert overtaking_slack_s(Stamp(0, 5), Stamp(0, 0), ScorePolicy(alpha=1, beta=0)) == math.inf


@given(stamps, stamps, st.floats(min_value=0, max_value=5), st.floats(min_value=0.01, max_value=5))
def test_whoever_has_the_higher_key_is_within_the_bound_and_nobody_else(
    one: Stamp, other: Stamp, alpha: float, beta: float
) -> None:
    policy = ScorePolicy(alpha, beta)
    ahead = policy.key(one) - policy.key(other)
    assume(abs(ahead) > 1e-6)
    assert may_overtake(one, other, policy) is (ahead > 0)


def test_the_monitor_reports_the_smallest_slack() -> None:
    monitor = OvertakingMonitor()
    monitor.observe([grant(Stamp(2, 10))], [Stamp(0, 0), Stamp(0, 3)])
    assert (monitor.num_checked, monitor.num_violations) == (1, 0)
    assert monitor.smallest_slack_s == pytest.approx(10)


def test_the_monitor_counts_a_grant_that_passed_a_better_waiter() -> None:
    monitor = OvertakingMonitor()
    monitor.observe([grant(Stamp(0, 5))], [Stamp(0, 0)])
    assert monitor.num_violations == 1
    assert monitor.smallest_slack_s == pytest.approx(-5)


def test_the_monitor_checks_grants_of_one_dispatch_against_each_other() -> None:
    monitor = OvertakingMonitor()
    monitor.observe([grant(Stamp(0, 5)), grant(Stamp(0, 0))], [])
    assert monitor.num_violations == 1


def test_rounding_at_wall_clock_times_is_no_violation() -> None:
    policy = ScorePolicy(alpha=0.7, beta=0.1)
    urgent, bulk = Stamp(7, 1700000051.1057653), Stamp(0, 1700000002.105765)
    assert policy.key(urgent) == policy.key(bulk)
    assert overtaking_slack_s(urgent, bulk, policy) < 0
    monitor = OvertakingMonitor()
    monitor.observe([grant(urgent, policy)], [bulk])
    assert (monitor.num_checked, monitor.num_violations) == (1, 0)


def test_a_grant_with_nobody_waiting_checks_nothing() -> None:
    monitor = OvertakingMonitor()
    monitor.observe([grant(Stamp(0, 0))], [])
    monitor.observe([], [Stamp(0, 0)])
    monitor.observe([grant(Stamp(0, 5), ScorePolicy(alpha=1, beta=0))], [Stamp(0, 0)])
    assert monitor.num_checked == 0


@given(st.lists(stamps, min_size=1, max_size=20), st.integers(min_value=1, max_value=20))
def test_serving_in_key_order_never_breaks_the_bound(waiting: list[Stamp], num_granted: int) -> None:
    monitor = OvertakingMonitor()
    in_order = sorted(waiting, key=POLICY.key, reverse=True)
    monitor.observe([grant(stamp) for stamp in in_order[:num_granted]], in_order[num_granted:])
    assert monitor.num_violations == 0
