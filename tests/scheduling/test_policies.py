"""Each policy orders as it says, through the real dispatcher and batcher; those whose keys change are keyed anew."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scheduling.dispatcher import Dispatcher
from scheduling.events import Resumed
from scheduling.score import PolicyName, ScorePolicy, Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.batching import make_batcher, make_sequence, parked, run_step
from tests.scheduling.dispatching import ONE_SLOT, granted, waiting

BULK = {"priority": -10, "num_prompt_tokens": 10, "max_output_tokens": 200}
SHORT = {"priority": 0, "num_prompt_tokens": 10, "max_output_tokens": 10}
URGENT = {"priority": 10, "num_prompt_tokens": 100, "max_output_tokens": 100}


def busy(name: PolicyName, **policy: Any) -> Dispatcher:
    """One slot, which is taken."""
    dispatcher = make_dispatcher(ONE_SLOT, policy=ScorePolicy(name=name, **policy))
    dispatcher.enqueue(make_ticket("runs"), "ingress", 0)
    assert granted(dispatcher) == ["runs"]
    dispatcher.claim("runs", "one-slot")
    return dispatcher


def order_of(dispatcher: Dispatcher, now_s: float) -> list[str]:
    """Who is granted, one after another, from `now_s` on."""
    order, last = [], "runs"
    while True:
        dispatcher.release(last)
        grants = granted(dispatcher, now_s)
        if not grants:
            return order
        [last] = grants
        dispatcher.claim(last, "one-slot")
        order.append(last)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aged", ["urgent", "short", "bulk"]),
        ("fcfs", ["bulk", "urgent", "short"]),
        ("strict", ["urgent", "short", "bulk"]),
        ("sjf", ["short", "urgent", "bulk"]),
        ("hrrn", ["short", "bulk", "urgent"]),
        ("skip_join_mlfq", ["bulk", "short", "urgent"]),
    ],
)
def test_each_policy_orders_three_requests_in_its_own_way(name: PolicyName, expected: list[str]) -> None:
    dispatcher = busy(name, quantum_tokens=64)
    for second, (lease_id, ticket) in enumerate((("bulk", BULK), ("urgent", URGENT), ("short", SHORT))):
        dispatcher.enqueue(make_ticket(lease_id, **ticket), "ingress", second)  # type: ignore[arg-type]
    assert order_of(dispatcher, now_s=3.0) == expected


def test_the_response_ratio_is_worked_out_anew_for_each_choice() -> None:
    early, late = busy("hrrn"), busy("hrrn")
    for dispatcher in (early, late):
        dispatcher.enqueue(make_ticket("long", num_prompt_tokens=900, max_output_tokens=0), "ingress", 0)
        dispatcher.enqueue(make_ticket("short", num_prompt_tokens=90, max_output_tokens=0), "ingress", 99)
    assert order_of(early, now_s=100) == ["long", "short"]
    assert order_of(late, now_s=200) == ["short", "long"]


def test_sjf_learns_how_long_the_answers_of_a_class_are() -> None:
    dispatcher = busy("sjf")
    for number in range(200):
        dispatcher.enqueue(make_ticket(f"f{number}", service_class="flex", max_output_tokens=250), "ingress", 1)
        dispatcher.release("runs")
        dispatcher.release(f"f{number - 1}", num_served=14)
        assert granted(dispatcher, 1) == [f"f{number}"]
    dispatcher.enqueue(make_ticket("chat", num_prompt_tokens=100, max_output_tokens=50), "ingress", 2)
    dispatcher.enqueue(
        make_ticket("flex", num_prompt_tokens=100, service_class="flex", max_output_tokens=250), "ingress", 3
    )
    assert waiting(dispatcher, 3) == ["flex", "chat"]


@pytest.mark.parametrize("name", ["fcfs", "sjf", "hrrn"])
def test_some_policies_take_no_place_from_whoever_runs(name: PolicyName) -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1, parked_limit=1), policy=ScorePolicy(name=name))
    dispatcher.enqueue(make_ticket("bulk", priority=-100, max_output_tokens=200), "ingress", 5)
    assert granted(dispatcher, 5) == ["bulk"]
    dispatcher.claim("bulk", "replica-1")
    dispatcher.enqueue(make_ticket("urgent", priority=100, num_prompt_tokens=1, max_output_tokens=1), "ingress", 5)
    assert granted(dispatcher, 6) == []
    batcher = make_batcher(make_sequence("bulk", priority=-100), max_num_seqs=1, policy=ScorePolicy(name=name))
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=100))
    assert parked(run_step(batcher)) == []


def test_priority_alone_takes_places_by_the_margin() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1, parked_limit=1), policy=ScorePolicy(name="strict"))
    dispatcher.enqueue(make_ticket("bulk"), "ingress", 0)
    assert granted(dispatcher) == ["bulk"]
    dispatcher.claim("bulk", "replica-1")
    dispatcher.enqueue(make_ticket("important", priority=5), "ingress", 1)
    assert granted(dispatcher, 1) == []
    dispatcher.enqueue(make_ticket("urgent", priority=5.5), "ingress", 1)
    assert granted(dispatcher, 1) == ["urgent"]


@pytest.mark.parametrize(("num_tokens", "level"), [(1, 0), (64, 0), (65, 1), (128, 1), (129, 2), (1_024, 4)])
def test_a_request_joins_the_first_level_whose_quantum_covers_its_prompt(num_tokens: int, level: int) -> None:
    assert ScorePolicy(name="skip_join_mlfq", quantum_tokens=64).first_level(num_tokens) == level


def test_whoever_has_used_its_quantum_falls_and_gives_way_to_a_better_level() -> None:
    policy = ScorePolicy(name="skip_join_mlfq", quantum_tokens=8)
    batcher = make_batcher(make_sequence("long", max_num_tokens=60), max_num_seqs=1, policy=policy)
    for _ in range(6):
        run_step(batcher)
    [fallen] = batcher.take_fallen()
    assert (fallen.seq_id, fallen.stamp.level) == ("long", 1)
    batcher.add(make_sequence("new"))
    assert parked(run_step(batcher)) == ["long"]


def test_the_queue_hears_of_a_fall_and_grants_the_place_to_a_better_level() -> None:
    policy = ScorePolicy(name="skip_join_mlfq", quantum_tokens=64)
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1, parked_limit=1), policy=policy)
    dispatcher.enqueue(make_ticket("long"), "ingress", 0)
    assert granted(dispatcher) == ["long"]
    dispatcher.claim("long", "replica-1")
    dispatcher.enqueue(make_ticket("new"), "ingress", 1)
    assert granted(dispatcher, 1) == []
    dispatcher.restamp("long", 1)
    assert granted(dispatcher, 1) == ["new"]


def test_whoever_starves_below_returns_to_the_best_level() -> None:
    policy = ScorePolicy(name="skip_join_mlfq", quantum_tokens=64, promote_after_s=30)
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1, parked_limit=1), policy=policy)
    dispatcher.enqueue(make_ticket("long"), "ingress", 0)
    assert granted(dispatcher) == ["long"]
    dispatcher.claim("long", "replica-1")
    dispatcher.restamp("long", 3)
    dispatcher.enqueue(make_ticket("new"), "ingress", 1)
    assert granted(dispatcher, 1) == ["new"]
    dispatcher.claim("new", "replica-1")
    dispatcher.park("long", "replica-1")
    dispatcher.enqueue(make_ticket("later"), "ingress", 20)
    assert waiting(dispatcher, 20) == ["later", "long"]
    dispatcher.expire(32)
    assert waiting(dispatcher, 32) == ["long", "later"]
    dispatcher.release("new")
    assert granted(dispatcher, 32) == []
    assert dispatcher.drain_events() == [Resumed("replica-1", "long", Stamp(0, 0))]


def test_whoever_waits_already_when_levels_come_into_force_returns_to_the_best_one_too() -> None:
    dispatcher = busy("aged")
    dispatcher.enqueue(make_ticket("bulk", num_prompt_tokens=900), "ingress", 0)
    policy = ScorePolicy(name="skip_join_mlfq", quantum_tokens=64, promote_after_s=30)
    dispatcher.reconfigure(policy, dispatcher.bounds)
    dispatcher.enqueue(make_ticket("short"), "ingress", 20)
    assert waiting(dispatcher, 20) == ["short", "bulk"]
    assert granted(dispatcher, 31) == []
    assert waiting(dispatcher, 31) == ["bulk", "short"]


def test_a_policy_that_goes_by_length_measures_those_who_wait_already() -> None:
    dispatcher = busy("aged")
    dispatcher.enqueue(make_ticket("bulk", num_prompt_tokens=500), "ingress", 0)
    dispatcher.enqueue(make_ticket("short", num_prompt_tokens=5), "ingress", 1)
    dispatcher.reconfigure(ScorePolicy(name="sjf"), dispatcher.bounds)
    assert (waiting(dispatcher, 1), dispatcher.policy.epoch) == (["short", "bulk"], 1)


@pytest.mark.parametrize("name", ["aged", "fcfs", "strict", "hrrn", "sjf", "skip_join_mlfq"])
def test_only_orders_by_arrival_bound_overtaking(name: PolicyName) -> None:
    policy = ScorePolicy(name=name)
    assert policy.bounds_overtaking is (name in ("aged", "fcfs"))
    assert math.isfinite(policy.head_start_s(1)) is (name in ("aged", "fcfs"))


@pytest.mark.parametrize("field", ["quantum_tokens", "promote_after_s"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_senseless_figure_is_refused_by_name(field: str, value: float) -> None:
    bad: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"{field}: expected a finite number above 0, got"):
        ScorePolicy(**bad)


def test_an_unknown_policy_is_refused_with_the_names_of_those_there_are() -> None:
    name: Any = "lottery"
    with pytest.raises(ValueError, match="policy: expected one of aged, fcfs, strict, hrrn, sjf, skip_join_mlfq, got"):
        ScorePolicy(name=name)
