"""More comes than can be served: what is let in starts in time, what is refused is told the truth, nothing idles."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import pytest

from scheduling.admission import PROMISE_SLACK, AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import WaitTooLong
from scheduling.request import Ticket
from scheduling.score import PolicyName, ScorePolicy
from tests.factories import make_dispatcher, make_ticket
from tests.scheduling.overload import CAPACITY_PER_S, NUM_SLOTS, NUM_TOKENS, SLOT_TOKENS_PER_S, Outcome, Overload

MAX_WAIT_S = 10.0
SECONDS = 300.0
SERVICE_S = NUM_TOKENS / SLOT_TOKENS_PER_S  # slots that were taken together are freed together


def one(number: int, attempt: int, **ticket: Any) -> Ticket:
    num_prompt_tokens = 28
    return make_ticket(
        f"{number}.{attempt}",
        num_prompt_tokens=num_prompt_tokens,
        max_output_tokens=NUM_TOKENS - num_prompt_tokens,
        content=str(number),
        **ticket,
    )


def play(load: float, *, comes_back: float = 1.0, seed: int = 1) -> Outcome:
    dispatcher = make_dispatcher(bounds=AdmissionBounds(max_wait_s=MAX_WAIT_S))
    overload = Overload(dispatcher, comes_back=comes_back, seed=seed)
    overload.offer(load * CAPACITY_PER_S, SECONDS, one)
    return overload.run(SECONDS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nine_of_ten_who_come_back_when_they_are_told_to_are_let_in(seed: int) -> None:
    outcome = play(1.3, seed=seed)
    assert outcome.num_returned > 100
    assert outcome.num_let_in_on_return >= 0.9 * outcome.num_returned


@pytest.mark.parametrize("load", [1.3, 2.0, 4.0])
@pytest.mark.parametrize("comes_back", [0.0, 0.5, 1.0])
def test_what_is_let_in_starts_within_the_bound_and_no_slot_idles(load: float, comes_back: float) -> None:
    outcome = play(load, comes_back=comes_back)
    late = [wait_s for wait_s in outcome.waits_s.values() if wait_s > PROMISE_SLACK * MAX_WAIT_S + SERVICE_S]
    assert len(late) <= 0.02 * len(outcome.waits_s)
    assert outcome.busy_slot_s >= 0.95 * NUM_SLOTS * SECONDS


def test_below_capacity_hardly_anybody_is_refused() -> None:
    outcome = play(0.8)
    assert outcome.num_first_refused <= 0.01 * len(outcome.waits_s)


def test_urgent_requests_are_let_in_and_start_first_however_much_standard_work_comes() -> None:
    dispatcher = make_dispatcher(bounds=AdmissionBounds(max_wait_s=MAX_WAIT_S))
    overload = Overload(dispatcher)
    overload.offer(3 * CAPACITY_PER_S, SECONDS, one)
    num_urgent = overload.offer(0.2 * CAPACITY_PER_S, SECONDS, partial(one, priority=10), first=1_000_000)
    outcome = overload.run(SECONDS)
    waits_s = [wait_s for number, wait_s in outcome.waits_s.items() if number > 1_000_000]
    assert len(waits_s) >= num_urgent - 1
    assert statistics.quantiles(waits_s, n=20)[-1] <= SERVICE_S


@pytest.mark.parametrize("name", ["aged", "fcfs", "strict", "sjf", "skip_join_mlfq"])
def test_of_those_who_come_at_once_as_many_are_let_in_as_start_within_the_bound(name: PolicyName) -> None:
    dispatcher = make_dispatcher(policy=ScorePolicy(name=name), bounds=AdmissionBounds(max_wait_s=MAX_WAIT_S))
    overload = Overload(dispatcher)
    overload.offer(1.5 * CAPACITY_PER_S, SECONDS, one)
    overload.run(SECONDS / 2)
    num_more = int(MAX_WAIT_S * CAPACITY_PER_S) - dispatcher.num_waiting
    num_let_in = sum(is_let_in(dispatcher, one(2_000_000 + number, 0), overload.now_s) for number in range(200))
    assert abs(num_let_in - num_more) <= 0.1 * MAX_WAIT_S * CAPACITY_PER_S


def test_bulk_that_may_wait_for_longer_than_the_head_start_of_others_is_let_in_and_starts() -> None:
    """Standard work alone is more than can be served, and goes before bulk work for a hundred seconds."""
    bounds = AdmissionBounds(max_wait_s=MAX_WAIT_S, max_wait_s_by_class={"flex": 300.0})
    dispatcher = make_dispatcher(bounds=bounds)
    overload = Overload(dispatcher)
    overload.offer(1.2 * CAPACITY_PER_S, SECONDS, one)
    bulk = partial(one, priority=-10, service_class="flex")
    num_bulk = overload.offer(0.1 * CAPACITY_PER_S, SECONDS, bulk, first=1_000_000)
    outcome = overload.run(SECONDS)
    waits_s = [wait_s for number, wait_s in outcome.waits_s.items() if number > 1_000_000]
    assert len(waits_s) >= 0.4 * num_bulk, "those of the last hundred seconds and more wait still"
    assert max(waits_s) <= 200


def test_promises_that_are_due_later_keep_nobody_out_of_a_queue_that_has_emptied() -> None:
    """All who wait go away; those who were refused beside them come back as they were told, and are let in too."""
    dispatcher = make_dispatcher(bounds=AdmissionBounds(max_wait_s=60.0))
    overload = Overload(dispatcher)
    overload.offer(6 * CAPACITY_PER_S, 60, one)
    overload.run(60)
    for view in dispatcher.snapshot(60).waiting:
        dispatcher.cancel(view.lease_id)
    num_refused = overload.outcome.num_first_refused
    num_newcomers = overload.offer(0.6 * CAPACITY_PER_S, 60, one, first=1_000_000)
    outcome = overload.run(120)
    assert num_refused > 300
    assert num_newcomers > 50
    assert outcome.num_first_refused == num_refused
    assert outcome.num_let_in_on_return >= 0.95 * outcome.num_returned
    assert max(outcome.waits_s.values()) <= 60 + SERVICE_S


def is_let_in(dispatcher: Dispatcher, ticket: Ticket, now_s: float) -> bool:
    try:
        dispatcher.enqueue(ticket, "ingress", now_s)
    except WaitTooLong:
        return False
    return True


def test_a_tenant_that_sends_a_hundred_times_more_does_not_delay_another() -> None:
    dispatcher = make_dispatcher(bounds=AdmissionBounds(max_wait_s=MAX_WAIT_S))
    dispatcher.reconfigure(dispatcher.policy, dispatcher.bounds, {"light": 1.0, "heavy": 1.0})
    overload = Overload(dispatcher)
    overload.offer(4 * CAPACITY_PER_S, SECONDS, partial(one, tenant="heavy"))
    num_light = overload.offer(0.04 * CAPACITY_PER_S, SECONDS, partial(one, tenant="light"), first=1_000_000)
    outcome = overload.run(SECONDS)
    waits_s = [wait_s for number, wait_s in outcome.waits_s.items() if number > 1_000_000]
    assert len(waits_s) == num_light
    assert max(waits_s) <= SERVICE_S, "the next slots that are freed"
