"""When replicas are added and removed: over time, with hysteresis."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.autoscaling import Autoscaler, ScalingLimits, ScalingReason
from tests.scheduling.scaling import (
    OBJECTIVE_S,
    STARTUP_S,
    STEP_S,
    TOKENS_PER_S,
    FluidModel,
    flex,
    limits,
    load,
    square_wave,
    standard,
    waiting,
)

WINDOW_S = 300.0


def test_a_backlog_that_outlasts_its_objective_adds_replicas_at_once_and_says_for_which_class() -> None:
    decision = Autoscaler(limits()).decide(load(standard(**waiting(35_000))), now_s=0.0)

    assert decision.num_replicas == 3  # 15,000 tokens are left when they have started, and 5 s to serve them in
    assert (decision.reason, decision.service_class) == (ScalingReason.BACKLOG, "standard")
    assert str(decision) == "3: what waits would outlast its objective (class standard)"


def test_replicas_that_are_starting_are_not_ordered_again() -> None:
    autoscaler = Autoscaler(limits())
    autoscaler.decide(load(standard(**waiting(35_000))), now_s=0.0)

    later = autoscaler.decide(load(standard(**waiting(25_000)), num_replicas=1, num_starting=2), now_s=10.0)

    assert later.num_replicas == 3


def test_what_starting_replicas_will_have_done_by_then_is_counted() -> None:
    ordered_just_now, ordered_long_ago = Autoscaler(limits()), Autoscaler(limits())
    for autoscaler in (ordered_just_now, ordered_long_ago):
        autoscaler.decide(load(standard(**waiting(35_000))), now_s=0.0)
    now = load(standard(**waiting(70_000)), num_replicas=1, num_starting=2)

    assert ordered_just_now.decide(now, now_s=0.0).num_replicas > ordered_long_ago.decide(now, now_s=19.0).num_replicas


def test_there_are_never_more_than_the_most_nor_fewer_than_the_fewest() -> None:
    assert Autoscaler(limits(max_replicas=2)).decide(load(standard(**waiting(1e9))), 0.0).num_replicas == 2
    autoscaler = Autoscaler(limits(min_replicas=2))
    decisions = [autoscaler.decide(load(num_replicas=5), now_s=float(s)).num_replicas for s in range(2_000)]
    assert decisions[-1] == 2


def test_fewer_replicas_are_kept_only_when_fewer_have_been_enough_for_the_whole_window() -> None:
    autoscaler = Autoscaler(limits())
    decide = autoscaler.decide

    assert decide(load(standard(), num_replicas=3), 0.0).reason is ScalingReason.HELD
    assert decide(load(standard(num_running=60), num_replicas=3), WINDOW_S).num_replicas == 3
    assert decide(load(standard(num_running=2), num_replicas=3), 2 * WINDOW_S - 1).num_replicas == 3
    spare = decide(load(standard(num_running=2), num_replicas=3), 2 * WINDOW_S + 1)
    assert (spare.num_replicas, spare.reason) == (1, ScalingReason.SPARE)


def test_as_many_stay_as_were_needed_at_some_time_of_the_window() -> None:
    autoscaler = Autoscaler(limits())
    for second in range(0, 1_000, 10):
        busy = second % 200 == 0
        decision = autoscaler.decide(load(standard(num_running=48 if busy else 2), num_replicas=4), float(second))

    assert decision.num_replicas == 2


def test_the_window_is_never_shorter_than_two_starts() -> None:
    autoscaler = Autoscaler(limits(downscale_window_s=0.0))

    assert autoscaler.decide(load(standard(num_running=1), num_replicas=2), 0.0).num_replicas == 2
    assert autoscaler.decide(load(standard(num_running=1), num_replicas=2), 2 * STARTUP_S).num_replicas == 2
    assert autoscaler.decide(load(standard(num_running=1), num_replicas=2), 2 * STARTUP_S + 1).num_replicas == 1


def test_the_last_replica_goes_after_an_idle_window_of_its_own() -> None:
    autoscaler = Autoscaler(limits(min_replicas=0))
    autoscaler.decide(load(standard(num_arrived=1)), 0.0)

    assert autoscaler.decide(load(standard()), 899.0).num_replicas == 1
    gone = autoscaler.decide(load(standard()), 901.0)
    assert (gone.num_replicas, gone.reason) == (0, ScalingReason.IDLE)


@pytest.mark.parametrize("sign_of_life", [{"num_waiting": 1}, {"num_running": 1}, {"num_arrived": 1}])
def test_a_model_that_anybody_uses_keeps_a_replica(sign_of_life: dict[str, float]) -> None:
    autoscaler = Autoscaler(limits(min_replicas=0))
    decisions = [autoscaler.decide(load(flex(**sign_of_life)), float(second)) for second in range(0, 5_000, 500)]
    assert [decision.num_replicas for decision in decisions] == [1] * 10


def test_several_replicas_go_to_one_first_and_to_none_later() -> None:
    autoscaler = Autoscaler(limits(min_replicas=0))
    replicas = 5
    seen = []
    for second in range(0, 2_000, 10):
        decided = autoscaler.decide(load(standard(), num_replicas=replicas), float(second)).num_replicas
        if decided != replicas:
            seen.append((second, decided))
        replicas = decided
    assert seen == [(310, 1), (910, 0)]


def test_anything_that_waits_wakes_a_model_that_has_no_replica() -> None:
    decision = Autoscaler(limits(min_replicas=0)).decide(
        load(flex(**waiting(10)), num_replicas=0, measured=False), now_s=0.0
    )
    assert (decision.num_replicas, decision.reason) == (1, ScalingReason.SOMETHING_WAITS)


def test_limits_can_change_while_it_runs() -> None:
    autoscaler = Autoscaler(limits(max_replicas=2))
    assert autoscaler.decide(load(standard(**waiting(1e6))), 0.0).num_replicas == 2
    autoscaler.limits = limits(max_replicas=4)
    assert autoscaler.decide(load(standard(**waiting(1e6)), num_replicas=2), 1.0).num_replicas == 4


def test_counts_of_requests_add_at_once_and_remove_after_the_window() -> None:
    autoscaler = Autoscaler(limits(max_replicas_for_sheddable=3))

    assert autoscaler.decide_by_counts(9, 4.0, num_ordered=1, now_s=0.0).num_replicas == 3
    assert autoscaler.decide_by_counts(0, 4.0, num_ordered=3, now_s=200.0).num_replicas == 3
    assert autoscaler.decide_by_counts(0, 4.0, num_ordered=3, now_s=400.0).num_replicas == 1


def test_counts_of_requests_which_may_all_be_sheddable_add_no_more_than_those_may_have() -> None:
    autoscaler = Autoscaler(limits(max_replicas_for_sheddable=2))
    assert autoscaler.decide_by_counts(500, 4.0, num_ordered=1, now_s=0.0).num_replicas == 2
    assert autoscaler.decide_by_counts(500, 4.0, num_ordered=3, now_s=1.0).num_replicas == 3


@pytest.mark.parametrize("wrong", [math.nan, -1.0, math.inf])
def test_a_count_that_is_none_is_an_error_that_names_it(wrong: float) -> None:
    with pytest.raises(ValueError, match="num_requests: expected a finite number of at least 0"):
        Autoscaler(limits()).decide_by_counts(wrong, 4.0, 1, 0.0)
    with pytest.raises(ValueError, match="requests_per_replica: expected a finite number above 0"):
        Autoscaler(limits()).decide_by_counts(1, wrong, 1, 0.0)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("min_replicas", -1),
        ("max_replicas", 0),
        ("max_replicas_for_sheddable", 0),
        ("downscale_window_s", math.nan),
        ("idle_window_s", -1.0),
        ("assumed_startup_s", math.inf),
        ("margin", 0.0),
        ("margin", 1.1),
        ("margin", math.nan),
    ],
)
def test_a_limit_that_cannot_be_is_an_error_that_names_it(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected"):
        limits(**{name: wrong})


def test_the_most_cannot_be_fewer_than_the_fewest() -> None:
    with pytest.raises(ValueError, match="max_replicas: expected at least 3, got 2"):
        ScalingLimits(min_replicas=3, max_replicas=2)


@settings(max_examples=20)
@given(half_period_s=st.floats(2 * STEP_S, 0.9 * WINDOW_S), high=st.floats(0.2, 12.0))
def test_a_wave_that_is_shorter_than_the_window_keeps_the_replicas_of_its_peak(
    half_period_s: float, high: float
) -> None:
    model = FluidModel(Autoscaler(limits())).run(square_wave(high * TOKENS_PER_S, half_period_s), 3_000)

    assert model.num_turns <= 1  # those that the first rise asked for beyond what the peak needs
    assert model.history_since(1_200) == sorted(model.history_since(1_200))


@settings(max_examples=20)
@given(half_period_s=st.floats(2 * STEP_S, 1_500.0), high=st.floats(0.2, 12.0))
def test_replicas_turn_at_most_twice_in_a_period_and_at_most_twice_in_a_window(
    half_period_s: float, high: float
) -> None:
    seconds = 4_000

    model = FluidModel(Autoscaler(limits())).run(square_wave(high * TOKENS_PER_S, half_period_s), seconds)

    assert model.num_turns <= 2 * math.ceil(seconds / max(2 * half_period_s, WINDOW_S))


@settings(max_examples=20)
@given(high=st.floats(0.2, 12.0), half_period_s=st.floats(2 * STEP_S, 1_500.0))
def test_sheddable_traffic_alone_never_gets_more_than_its_own_limit(high: float, half_period_s: float) -> None:
    autoscaler = Autoscaler(limits(max_replicas_for_sheddable=3))

    model = FluidModel(autoscaler, make_class=flex).run(square_wave(high * TOKENS_PER_S, half_period_s), 2_000)

    assert max(model.history) <= 3


@settings(max_examples=20)
@given(high=st.floats(0.1, 12.0))
def test_a_steady_load_is_served_within_its_objective_and_then_left_alone(high: float) -> None:
    model = FluidModel(Autoscaler(limits())).run(lambda _: high * TOKENS_PER_S, 3_000)

    assert model.backlog <= OBJECTIVE_S * TOKENS_PER_S * model.num_replicas
    assert len(set(model.history_since(1_500))) == 1
    assert model.num_replicas <= math.ceil(high / 0.8) + 1
