"""Where a quota is asked: once for each request, at the front door, and what is given back when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import DeadlinePassed, LargerThanQuota, QueueFull, QuotaSpent
from scheduling.quotas import QuotaClaim, QuotaLimits
from scheduling.request import Ticket
from scheduling.score import ScorePolicy
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.dispatching import granted

LIMIT = 100


def dispatcher_with_quota(max_waiting: int = 1024, max_num_seqs: int = 4) -> Dispatcher:
    bounds = AdmissionBounds(max_waiting=max_waiting)
    dispatcher = make_dispatcher(make_replica("r1", max_num_seqs=max_num_seqs), make_replica("r2"), bounds=bounds)
    if max_num_seqs == 1:
        dispatcher.remove_replica("r2")
    dispatcher.reconfigure(ScorePolicy(), bounds, None, {"account": QuotaLimits(max_tokens_per_min=LIMIT)})
    return dispatcher


def ticket(lease_id: str, num_tokens: int = LIMIT, charge_id: str = "", **fields: object) -> Ticket:
    claim = QuotaClaim("account", charge_id or lease_id, num_tokens)
    made = make_ticket(lease_id, num_prompt_tokens=0, max_output_tokens=num_tokens, claim=claim)
    return replace(made, **fields)  # type: ignore[arg-type]


def is_spent(dispatcher: Dispatcher, num_tokens: int = LIMIT, now_s: float = 0.0) -> bool:
    """Whether a request of so many tokens would be refused. One that is let in is taken back."""
    probe = ticket(f"probe at {now_s} of {num_tokens}", num_tokens)
    try:
        dispatcher.enqueue(probe, "ingress", now_s)
    except QuotaSpent:
        return True
    dispatcher.cancel(probe.lease_id)
    return False


def test_a_newcomer_beyond_its_keys_quota_is_refused_and_never_waits() -> None:
    dispatcher = dispatcher_with_quota()
    dispatcher.enqueue(ticket("first"), "ingress", 0)
    with pytest.raises(QuotaSpent) as refused:
        dispatcher.enqueue(ticket("second", 1), "another ingress", 20)
    assert refused.value.retry_after_s == 41
    assert granted(dispatcher, 20) == ["first"]
    dispatcher.enqueue(ticket("second", 1), "another ingress", 61)


def test_one_that_could_never_be_let_in_is_told_so() -> None:
    with pytest.raises(LargerThanQuota):
        dispatcher_with_quota().enqueue(ticket("large", LIMIT + 1), "ingress", 0)


def test_the_same_ticket_said_twice_is_charged_once() -> None:
    dispatcher = dispatcher_with_quota()
    for _ in range(2):
        dispatcher.enqueue(ticket("first"), "ingress", 0)
    assert granted(dispatcher) == ["first"]


def test_an_answer_that_lost_its_replica_goes_on_and_is_not_charged_again() -> None:
    dispatcher = dispatcher_with_quota()
    stamp = dispatcher.enqueue(ticket("first", 60), "ingress", 0)
    [(_, grant)] = dispatcher.dispatch(0)
    dispatcher.claim("first", grant.replica_id)
    dispatcher.fail("first")
    dispatcher.enqueue(ticket("first+1", 60, charge_id="first", stamp=stamp), "ingress", 1)
    assert granted(dispatcher, 1) == ["first+1"]
    assert is_spent(dispatcher, 41, now_s=1)
    assert not is_spent(dispatcher, 40, now_s=1)


def test_an_answer_that_goes_on_is_let_in_even_where_others_have_used_up_the_quota() -> None:
    dispatcher = dispatcher_with_quota()
    stamp = dispatcher.enqueue(ticket("first"), "ingress", 0)
    granted(dispatcher)
    dispatcher.release("first", num_served=10)
    dispatcher.enqueue(ticket("second", 90), "ingress", 1)
    dispatcher.enqueue(ticket("first+1", charge_id="first", stamp=stamp), "ingress", 1)
    assert granted(dispatcher, 1) == ["first+1", "second"]


def test_a_queue_that_is_new_charges_nothing_for_what_an_earlier_one_let_in() -> None:
    dispatcher = dispatcher_with_quota()
    stamp = dispatcher.enqueue(ticket("old"), "ingress", 0)
    successor = dispatcher_with_quota()
    successor.enqueue(ticket("old", stamp=stamp), "ingress", 1)
    assert not is_spent(successor, now_s=1)


def test_when_a_request_ends_only_what_it_was_served_stays_charged() -> None:
    dispatcher = dispatcher_with_quota()
    dispatcher.enqueue(ticket("first"), "ingress", 0)
    granted(dispatcher)
    dispatcher.release("first")
    assert is_spent(dispatcher)
    dispatcher.release("first", num_served=30)
    assert is_spent(dispatcher, 71)
    assert not is_spent(dispatcher, 70)


def _cancelled(dispatcher: Dispatcher) -> None:
    dispatcher.cancel("waits")


def _expired(dispatcher: Dispatcher) -> None:
    [event] = dispatcher.expire(5)
    assert isinstance(event.error, DeadlinePassed)


def _shed(dispatcher: Dispatcher) -> None:
    dispatcher.enqueue(make_ticket("urgent", priority=50), "ingress", 5)
    [event] = dispatcher.drain_events()
    assert event.lease_id == "waits"


@pytest.mark.parametrize("ends", [_cancelled, _expired, _shed])
def test_whoever_waited_in_vain_is_given_its_tokens_back(ends: Callable[[Dispatcher], None]) -> None:
    dispatcher = dispatcher_with_quota(max_waiting=1, max_num_seqs=1)
    dispatcher.enqueue(make_ticket("runs"), "ingress", 0)
    granted(dispatcher)
    dispatcher.enqueue(ticket("waits", deadline_s=4.0, priority=-1), "ingress", 0)
    ends(dispatcher)
    dispatcher.release("runs", 0)
    dispatcher.cancel("urgent")
    assert not is_spent(dispatcher, now_s=5)


def test_whoever_is_refused_for_lack_of_room_is_charged_nothing() -> None:
    dispatcher = dispatcher_with_quota(max_waiting=1, max_num_seqs=1)
    dispatcher.enqueue(make_ticket("runs"), "ingress", 0)
    granted(dispatcher)
    dispatcher.enqueue(make_ticket("waits", priority=1), "ingress", 0)
    with pytest.raises(QueueFull):
        dispatcher.enqueue(ticket("refused"), "ingress", 0)
    dispatcher.cancel("runs")
    dispatcher.cancel("waits")
    assert not is_spent(dispatcher)


def test_all_choices_of_a_request_are_let_in_or_refused_together() -> None:
    dispatcher = dispatcher_with_quota()
    for choice in range(3):
        claim = QuotaClaim("account", "one", 90, choice)
        dispatcher.enqueue(replace(ticket(f"one {choice}", 30), claim=claim), "ingress", 0)
    for choice in range(3):
        claim = QuotaClaim("account", "other", 30, choice)
        with pytest.raises(QuotaSpent):
            dispatcher.enqueue(replace(ticket(f"other {choice}", 10), claim=claim), "ingress", 0)
    assert granted(dispatcher) == ["one 0", "one 1", "one 2"]
    for choice in range(3):
        dispatcher.release(f"one {choice}", num_served=10)
    assert not is_spent(dispatcher, LIMIT - 30)


def test_a_choice_that_is_refused_is_given_back_what_it_was_charged_with_the_others() -> None:
    dispatcher = dispatcher_with_quota(max_waiting=1, max_num_seqs=1)
    choices = [
        replace(ticket(f"choice {number}", LIMIT // 2), claim=QuotaClaim("account", "both", LIMIT, number))
        for number in range(2)
    ]
    dispatcher.enqueue(ticket("runs", charge_id="free"), "ingress", -100)
    assert granted(dispatcher, -100) == ["runs"]
    dispatcher.enqueue(choices[0], "ingress", 0)
    with pytest.raises(QueueFull):
        dispatcher.enqueue(choices[1], "ingress", 0)
    dispatcher.cancel("choice 0")
    assert not is_spent(dispatcher)
