"""Too much waits: who gives way, who is refused, and what each is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher, Shed
from scheduling.errors import QueueFull, QueueTokensFull
from scheduling.score import Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket


def enqueue(dispatcher: Dispatcher, lease_id: str, priority: float = 0, now_s: float = 0, num_tokens: int = 20) -> None:
    ticket = make_ticket(lease_id, priority=priority, num_prompt_tokens=num_tokens, max_output_tokens=0)
    dispatcher.enqueue(ticket, "ingress", now_s)


def full_queue(*priorities: float, max_waiting_tokens: int | None = None) -> Dispatcher:
    """Tickets named "0", "1", ... wait up to the bound, with no replica to run on."""
    bounds = AdmissionBounds(max_waiting=len(priorities), max_waiting_tokens=max_waiting_tokens)
    dispatcher = make_dispatcher(bounds=bounds)
    for number, priority in enumerate(priorities):
        enqueue(dispatcher, str(number), priority)
    return dispatcher


def waiting(dispatcher: Dispatcher) -> list[str]:
    return [view.lease_id for view in dispatcher.snapshot(0).waiting]


def shed(dispatcher: Dispatcher) -> list[str]:
    return [event.lease_id for event in dispatcher.drain_events()]


def test_a_full_queue_refuses_a_newcomer_and_says_how_full_it_is() -> None:
    dispatcher = full_queue(0, 0)
    with pytest.raises(QueueFull) as refused:
        enqueue(dispatcher, "newcomer")
    assert (refused.value.num_waiting, refused.value.max_waiting) == (2, 2)
    assert waiting(dispatcher) == ["0", "1"]


def test_the_lowest_below_standard_gives_way_to_a_higher_key() -> None:
    dispatcher = full_queue(0, -10, -5, -10)
    enqueue(dispatcher, "newcomer")
    [event] = dispatcher.drain_events()
    assert isinstance(event, Shed)
    assert (event.lease_id, event.owner, event.request_id) == ("3", "ingress", "request-of-3")
    assert (event.error.max_waiting, event.error.retry_after_s) == (4, 5)
    assert waiting(dispatcher) == ["0", "newcomer", "2", "1"]


def test_nobody_gives_way_to_a_lower_or_equal_key() -> None:
    dispatcher = full_queue(-5, -5)
    for priority in (-10, -5):
        with pytest.raises(QueueFull):
            enqueue(dispatcher, f"newcomer-{priority}", priority)
    assert waiting(dispatcher) == ["0", "1"]
    assert shed(dispatcher) == []


def test_standard_work_never_gives_way_not_even_to_urgent_work() -> None:
    dispatcher = full_queue(0, 0)
    with pytest.raises(QueueFull):
        enqueue(dispatcher, "urgent", priority=100)
    assert waiting(dispatcher) == ["0", "1"]


def test_a_refused_newcomer_may_come_back_with_the_same_lease_id() -> None:
    dispatcher = full_queue(0)
    with pytest.raises(QueueFull):
        enqueue(dispatcher, "newcomer")
    dispatcher.cancel("0")
    enqueue(dispatcher, "newcomer")
    assert waiting(dispatcher) == ["newcomer"]


def test_a_refused_newcomer_leaves_no_deadline_behind() -> None:
    dispatcher = full_queue(0)
    with pytest.raises(QueueFull):
        dispatcher.enqueue(make_ticket("newcomer", deadline_s=5), "ingress", 0)
    assert dispatcher.expire(10) == []


def test_as_many_give_way_as_the_tokens_need() -> None:
    dispatcher = full_queue(0, -1, -2, -3, max_waiting_tokens=90)
    dispatcher.reconfigure(dispatcher.policy, AdmissionBounds(max_waiting=10, max_waiting_tokens=90))
    enqueue(dispatcher, "newcomer", num_tokens=40)
    assert shed(dispatcher) == ["3", "2"]
    assert waiting(dispatcher) == ["0", "newcomer", "1"]


def test_one_makes_room_for_one_however_much_waits_that_may_only_wait_for_others() -> None:
    """The urgent ones have taken their eighth, beside as much bulk work as standard work would leave room for."""
    dispatcher = make_dispatcher(bounds=AdmissionBounds(max_waiting=80))
    for number in range(80):
        enqueue(dispatcher, f"{number}", priority=-10 if number < 70 else 10)
    enqueue(dispatcher, "standard")
    assert shed(dispatcher) == ["69"]
    enqueue(dispatcher, "another")
    assert shed(dispatcher) == ["68"]


def test_nobody_is_shed_when_that_would_not_make_enough_room() -> None:
    dispatcher = full_queue(0, 0, 0, -1, max_waiting_tokens=90)
    dispatcher.reconfigure(dispatcher.policy, AdmissionBounds(max_waiting=10, max_waiting_tokens=90))
    with pytest.raises(QueueTokensFull) as refused:
        enqueue(dispatcher, "newcomer", num_tokens=40)
    assert (refused.value.num_waiting, refused.value.max_waiting) == (80, 81)
    assert shed(dispatcher) == []
    assert waiting(dispatcher) == ["0", "1", "2", "3"]


def test_an_accepted_request_that_comes_back_is_neither_refused_nor_shed() -> None:
    dispatcher = full_queue(0)
    dispatcher.enqueue(make_ticket("again", priority=-10, stamp=Stamp(-10, 0)), "ingress", 1)
    assert waiting(dispatcher) == ["0", "again"]
    with pytest.raises(QueueFull):
        enqueue(dispatcher, "newcomer", priority=5, now_s=1)
    assert waiting(dispatcher) == ["0", "again"]


def test_nobody_is_refused_or_shed_while_slots_are_idle() -> None:
    dispatcher = full_queue(-1, 0)
    dispatcher.register_replica(make_replica(max_num_seqs=2))
    enqueue(dispatcher, "urgent", priority=5)
    enqueue(dispatcher, "standard")
    assert [grant.lease_id for _, grant in dispatcher.dispatch(0)] == ["urgent", "1"]
    assert shed(dispatcher) == []
    assert waiting(dispatcher) == ["standard", "0"]


def test_a_newcomer_that_an_idle_slot_takes_is_welcome_however_many_wait() -> None:
    dispatcher = full_queue(0)
    for lease_id in ("moved-1", "moved-2"):
        dispatcher.enqueue(make_ticket(lease_id, stamp=Stamp(0, 0)), "ingress", 0)
    dispatcher.register_replica(make_replica(max_num_seqs=1))
    enqueue(dispatcher, "urgent", priority=5)
    assert [grant.lease_id for _, grant in dispatcher.dispatch(0)] == ["urgent"]


def test_a_grant_made_early_and_cancelled_before_it_is_delivered_is_not_delivered() -> None:
    dispatcher = full_queue(0)
    dispatcher.register_replica(make_replica(max_num_seqs=1))
    enqueue(dispatcher, "next")
    dispatcher.cancel("0")
    assert [grant.lease_id for _, grant in dispatcher.dispatch(0)] == ["next"]


@pytest.mark.parametrize("loses", [Dispatcher.remove_replica, Dispatcher.quarantine])
def test_a_grant_made_early_to_a_replica_that_is_lost_before_it_is_delivered_goes_to_another(
    loses: Callable[[Dispatcher, str], object],
) -> None:
    dispatcher = full_queue(0)
    dispatcher.register_replica(make_replica("lost", max_num_seqs=1))
    enqueue(dispatcher, "next")
    loses(dispatcher, "lost")
    assert dispatcher.dispatch(0) == []
    assert waiting(dispatcher) == ["0", "next"]
    dispatcher.register_replica(make_replica("other", max_num_seqs=1))
    assert [(grant.lease_id, grant.replica_id) for _, grant in dispatcher.dispatch(0)] == [("0", "other")]


@pytest.mark.parametrize("idle_s", [0, 3600])
def test_retry_after_follows_the_measured_rate_and_idle_time_does_not_dull_it(idle_s: float) -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1), bounds=AdmissionBounds(max_waiting=2))
    enqueue(dispatcher, "runs")
    enqueue(dispatcher, "waits")
    dispatcher.dispatch(0)
    for second in range(60):
        dispatcher.observe_service("replica-1", 5 * second, float(second))
    now_s = 60 + idle_s
    enqueue(dispatcher, "waits too", now_s=now_s)
    with pytest.raises(QueueFull) as refused:
        enqueue(dispatcher, "refused", now_s=now_s)
    assert refused.value.retry_after_s == 4, "twenty tokens at five a second"
