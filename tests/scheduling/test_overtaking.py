"""The bound on overtaking: it is what the key order allows, and the monitor would notice a breach."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scheduling.overtaking import OvertakingMonitor, may_overtake, overtaking_slack_s
from scheduling.score import ScorePolicy, Stamp

POLICY = ScorePolicy(alpha=1, beta=0.1)  # a level is ten seconds
arrivals = st.floats(min_value=0, max_value=1000)
stamps = st.builds(Stamp, st.integers(-10, 10), arrivals, st.floats(min_value=0, max_value=100))


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


class Waiting:
    """A monitor, and who waits in it by number; starts go by number too."""

    def __init__(self, *stamps: Stamp, policy: ScorePolicy = POLICY, tenants: str = "") -> None:
        self.monitor = OvertakingMonitor(policy)
        self.stamps = dict(enumerate(stamps))
        self.tenants = tenants or "t" * len(stamps)
        for number, stamp in self.stamps.items():
            self.monitor.entered(str(number), self.tenants[number], stamp)

    def start(self, number: int, **tags_s: float) -> None:
        self.monitor.left(str(number))
        self.monitor.started(self.tenants[number], self.stamps[number], lambda tenant: tags_s[tenant])


def test_the_monitor_reports_the_smallest_slack() -> None:
    waiting = Waiting(Stamp(0, 0), Stamp(0, 3), Stamp(2, 10))
    waiting.start(2)
    assert (waiting.monitor.num_checked, waiting.monitor.num_violations) == (1, 0)
    assert waiting.monitor.smallest_slack_s == pytest.approx(10)


def test_the_monitor_counts_a_grant_that_passed_a_better_waiter() -> None:
    waiting = Waiting(Stamp(0, 0), Stamp(0, 5))
    waiting.start(1)
    assert waiting.monitor.num_violations == 1
    assert waiting.monitor.smallest_slack_s == pytest.approx(-5)


def test_whoever_has_left_is_overtaken_no_more() -> None:
    waiting = Waiting(Stamp(0, 0), Stamp(0, 5))
    waiting.start(0)
    waiting.start(1)
    assert waiting.monitor.num_violations == 0


def test_between_tenants_the_service_counts_and_not_the_arrival() -> None:
    waiting = Waiting(Stamp(0, 0), Stamp(0, 500), tenants="ab")
    waiting.start(1, a=7, b=7)
    assert (waiting.monitor.num_violations, waiting.monitor.smallest_slack_s) == (0, 0)


def test_a_tenant_that_was_served_more_may_go_first_by_its_head_start_only() -> None:
    waiting = Waiting(Stamp(0, 0), Stamp(1, 500), Stamp(1, 500), tenants="abb")
    waiting.start(1, a=7, b=16)
    assert waiting.monitor.num_violations == 0
    waiting.start(2, a=7, b=18)
    assert waiting.monitor.num_violations == 1


def test_other_weights_are_another_bound() -> None:
    waiting = Waiting(Stamp(0, 0), Stamp(2, 15), Stamp(2, 15))
    waiting.start(1)
    waiting.monitor.rekey(ScorePolicy(alpha=0.5, beta=0.1))
    waiting.start(2)
    assert (waiting.monitor.num_checked, waiting.monitor.num_violations) == (2, 1)


def test_rounding_at_wall_clock_times_is_no_violation() -> None:
    policy = ScorePolicy(alpha=0.7, beta=0.1)
    urgent, bulk = Stamp(7, 1700000051.1057653), Stamp(0, 1700000002.105765)
    assert policy.key(urgent) == policy.key(bulk)
    assert overtaking_slack_s(urgent, bulk, policy) < 0
    waiting = Waiting(bulk, urgent, policy=policy)
    waiting.start(1)
    assert (waiting.monitor.num_checked, waiting.monitor.num_violations) == (1, 0)


def test_a_grant_with_nobody_waiting_or_without_a_bound_checks_nothing() -> None:
    alone = Waiting(Stamp(0, 0))
    alone.start(0)
    unbounded = Waiting(Stamp(0, 0), Stamp(0, 5), policy=ScorePolicy(alpha=1, beta=0))
    unbounded.start(1)
    assert (alone.monitor.num_checked, unbounded.monitor.num_checked) == (0, 0)


@given(st.lists(stamps, min_size=1, max_size=20), st.integers(min_value=1, max_value=20))
def test_serving_in_key_order_never_breaks_the_bound(stamps: list[Stamp], num_granted: int) -> None:
    waiting = Waiting(*stamps)
    for number in sorted(waiting.stamps, key=lambda n: -POLICY.line_key(stamps[n]))[:num_granted]:
        waiting.start(number)
    assert waiting.monitor.num_violations == 0
