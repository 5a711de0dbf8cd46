"""How many replicas a load needs at one moment."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.replica_need import NeedRules, ReplicaNeed, ScalingReason, replica_need
from scheduling.scaling_load import ClassLoad, ScalingLoad
from tests.scheduling.scaling import STARTUP_S, flex, load, standard, waiting

RULES = NeedRules(max_replicas_for_sheddable=1, startup_s=STARTUP_S, starting_within_s=STARTUP_S, margin=0.8)


def need(given: ScalingLoad, **changed: float) -> ReplicaNeed:
    return replica_need(given, replace(RULES, **changed))  # type: ignore[arg-type]


def urgent(**figures: float) -> ClassLoad:
    return ClassLoad("urgent", priority=5, objective_s=1.0, **figures)  # type: ignore[arg-type]


def test_a_backlog_that_is_served_before_a_replica_could_start_asks_for_none() -> None:
    assert need(load(standard(**waiting(20_000)))).num_replicas == 1


def test_what_is_left_when_they_have_started_must_be_served_within_the_objective() -> None:
    assert need(load(standard(**waiting(25_001)))).num_replicas == 2
    assert need(load(standard(**waiting(30_001)))).num_replicas == 3


def test_what_arrives_until_then_counts() -> None:
    assert need(load(standard(**waiting(5_000), arriving_tokens_per_s=2_000))).num_replicas == 5


def test_the_class_that_needs_most_decides_and_is_named() -> None:
    mixed = load(standard(**waiting(24_000)), urgent(**waiting(23_000)))
    decided = need(mixed)
    assert (decided.num_replicas, decided.service_class) == (3, "urgent")


def test_arrivals_of_lower_classes_do_not_count_against_a_higher_one() -> None:
    bulk = standard(arriving_tokens_per_s=1e6)
    assert need(load(urgent(**waiting(20_500)), bulk)).num_replicas == 1
    assert need(load(urgent(**waiting(20_500), arriving_tokens_per_s=500), bulk)).num_replicas > 1


def test_what_a_lower_class_has_before_a_higher_one_by_waiting_long_counts() -> None:
    behind_old_work = standard(num_waiting=1, tokens_waiting=100, tokens_ahead=30_000)
    assert need(load(behind_old_work)).num_replicas == 2


def test_a_class_of_which_nobody_told_the_objective_asks_for_no_more() -> None:
    unknown = ClassLoad("unknown", **waiting(1e6))  # type: ignore[arg-type]
    assert need(load(unknown)).num_replicas <= 1


def test_a_slower_start_asks_for_more_of_what_arrives_and_less_of_what_waits() -> None:
    growing = load(standard(**waiting(1_000), arriving_tokens_per_s=2_000))
    assert need(growing, startup_s=60.0).num_replicas > need(growing, startup_s=10.0).num_replicas
    draining = load(standard(**waiting(30_000)))
    assert need(draining, startup_s=30.0).num_replicas < need(draining, startup_s=0.0).num_replicas


@pytest.mark.parametrize(
    ("figures", "replicas"),
    [
        ({"num_running": 25}, 1),  # of 32 slots, four in five
        ({"num_running": 26}, 2),
        ({"num_running": 1, "tokens_running": 80_001}, 2),  # of 100,000 tokens of KV cache
        ({"num_running": 1, "arriving_tokens_per_s": 801}, 2),
        ({"num_running": 1, "arriving_tokens_per_s": 1_601}, 3),
        ({"num_waiting": 1, "tokens_ahead": 4_001}, 2),  # 5 s of one replica, by the margin 4
    ],
)
def test_a_replica_is_kept_while_the_others_would_be_too_full_without_it(
    figures: dict[str, float], replicas: int
) -> None:
    assert need(load(standard(**figures), num_replicas=4)) == ReplicaNeed(replicas, ScalingReason.IN_USE)


def test_a_fuller_use_adds_nobody() -> None:
    assert need(load(standard(num_running=32, arriving_tokens_per_s=5_000))).num_replicas == 1


def test_before_a_rate_is_measured_what_there_is_stays_while_something_waits() -> None:
    waits = load(standard(**waiting(1e6)), num_replicas=3, measured=False)
    assert need(waits) == ReplicaNeed(3, ScalingReason.UNMEASURED)
    runs = load(standard(num_running=10), num_replicas=3, measured=False)
    assert need(runs) == ReplicaNeed(1, ScalingReason.IN_USE)


def test_before_a_rate_is_measured_a_wait_beyond_its_objective_adds_one_at_a_time() -> None:
    late = standard(**waiting(10, longest_wait_s=5.1))
    assert need(load(late, measured=False)) == ReplicaNeed(2, ScalingReason.LATE, "standard")
    assert need(load(late, num_starting=1, measured=False)) == ReplicaNeed(2, ScalingReason.UNMEASURED)
    assert need(load(late, num_replicas=2, measured=False)).num_replicas == 3


def test_a_wait_for_the_first_replica_adds_no_second() -> None:
    late = standard(**waiting(10, longest_wait_s=99))
    assert need(load(late, num_replicas=0, measured=False)) == ReplicaNeed(1, ScalingReason.SOMETHING_WAITS)
    assert need(load(late, num_replicas=0, num_starting=1, measured=False)).num_replicas == 1


def test_traffic_below_priority_0_alone_asks_for_no_more_than_its_own_limit() -> None:
    crowd = load(flex(**waiting(1e6)), num_replicas=1)
    assert need(crowd) == ReplicaNeed(1, ScalingReason.SHEDDABLE)
    assert need(crowd, max_replicas_for_sheddable=4) == ReplicaNeed(4, ScalingReason.SHEDDABLE)
    late = load(flex(**waiting(10, longest_wait_s=99)), measured=False)
    assert need(late).num_replicas == 1


def test_traffic_below_priority_0_keeps_no_replica_beyond_its_limit_either() -> None:
    running = flex(num_running=128, arriving_tokens_per_s=9_000, **waiting(1e6))
    assert need(load(running, num_replicas=4)).num_replicas == 1
    assert need(load(running, num_replicas=4, measured=False)).num_replicas == 1


def test_traffic_below_priority_0_takes_nothing_from_what_others_need() -> None:
    mixed = load(standard(**waiting(30_001)), flex(num_waiting=5, tokens_waiting=1e6, tokens_ahead=1e6))
    assert need(mixed) == ReplicaNeed(3, ScalingReason.BACKLOG, "standard")


def test_nothing_at_all_needs_none_and_anything_at_all_needs_one() -> None:
    assert need(load()) == ReplicaNeed(0, ScalingReason.IDLE)
    assert need(load(standard(), num_replicas=5)) == ReplicaNeed(0, ScalingReason.IDLE)
    for figures in ({"num_waiting": 1}, {"num_running": 1}, {"num_arrived": 1}):
        assert need(load(flex(**figures), num_replicas=0)).num_replicas == 1


figure = st.floats(0, 1e300)


@given(
    ahead=figure,
    arriving=figure,
    rate=st.floats(1e-300, 1e300),
    replicas=st.integers(0, 50),
    starting=st.integers(0, 50),
)
def test_every_load_has_a_need_however_strange_its_figures(
    ahead: float, arriving: float, rate: float, replicas: int, starting: int
) -> None:
    one = standard(num_waiting=1, tokens_waiting=ahead, tokens_ahead=ahead, arriving_tokens_per_s=arriving)
    strange = ScalingLoad(
        classes=(one,), tokens_per_s=rate, startup_s=1e6, num_replicas=replicas, num_starting=starting
    )
    assert need(strange).num_replicas >= 1


@given(ahead=st.floats(0, 1e6), more=st.floats(0, 1e6), arriving=st.floats(0, 1e4))
def test_more_waiting_never_needs_fewer(ahead: float, more: float, arriving: float) -> None:
    less = load(standard(num_waiting=1, tokens_ahead=ahead, arriving_tokens_per_s=arriving), num_replicas=3)
    greater = load(standard(num_waiting=1, tokens_ahead=ahead + more, arriving_tokens_per_s=arriving), num_replicas=3)
    assert need(greater).num_replicas >= need(less).num_replicas


@pytest.mark.parametrize("wrong", [math.nan, -1.0, math.inf])
@pytest.mark.parametrize("name", ["num_waiting", "tokens_ahead", "longest_wait_s", "arriving_tokens_per_s"])
def test_a_class_figure_that_is_none_is_an_error_that_names_it(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"{name} of class 'standard': expected at least 0"):
        standard(**{name: wrong})


@pytest.mark.parametrize("wrong", [math.nan, -1.0, 0.0, math.inf])
def test_an_objective_that_is_none_is_an_error_that_names_it(wrong: float) -> None:
    with pytest.raises(ValueError, match="objective_s of class 'standard': expected seconds above 0"):
        ClassLoad("standard", objective_s=wrong)


@pytest.mark.parametrize("wrong", [math.nan, -1.0, math.inf])
@pytest.mark.parametrize("name", ["tokens_per_s", "startup_s", "max_num_seqs", "kv_tokens", "num_replicas"])
def test_a_figure_of_the_replicas_that_is_none_is_an_error_that_names_it(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a finite number"):
        ScalingLoad(**{name: wrong})  # type: ignore[arg-type]


def test_the_predicted_wait_is_that_of_the_last_in_line() -> None:
    line = standard(**waiting(6_000))
    assert load(line, num_replicas=2).wait_s(line) == 3.0
    assert load(line, num_replicas=0).wait_s(line) == math.inf
    assert load(line, measured=False).wait_s(line) is None
    assert load(measured=False).wait_s(standard()) == 0.0
