"""Places that were promised in a queue that is full: kept by refusing newcomers, never at the cost of who waits."""

from __future__ import annotations

import pytest

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import QueueFull, WaitTooLong
from scheduling.request import Ticket
from scheduling.score import ScorePolicy
from tests.factories import make_replica, make_ticket
from tests.scheduling.dispatching import granted, waiting

ROOM = 16  # of which an eighth is kept for those above standard


def ticket(name: str, priority: float = 0, tenant: str = "default") -> Ticket:
    return make_ticket(name, priority=priority, tenant=tenant, content=name)


def full(priority: float = 0) -> Dispatcher:
    """A measured service whose queue has no room for more of this priority."""
    dispatcher = Dispatcher(ScorePolicy(), AdmissionBounds(max_waiting=ROOM))
    dispatcher.register_replica(make_replica("r1", max_num_seqs=1))
    dispatcher.enqueue(ticket("runs", 100), "ingress", 0)
    assert granted(dispatcher) == ["runs"]
    dispatcher.claim("runs", "r1")
    for number in range(ROOM - ROOM // 8):
        dispatcher.enqueue(ticket(f"w{number}", priority), "ingress", 1)
    for second in range(1, 4):
        dispatcher.observe_service("r1", 10_000 * second, second)
    return dispatcher


def refused(dispatcher: Dispatcher, newcomer: Ticket, now_s: float = 4) -> QueueFull:
    with pytest.raises(QueueFull) as caught:
        dispatcher.enqueue(newcomer, "ingress", now_s)
    return caught.value


def test_a_newcomer_does_not_take_the_room_that_was_promised_to_another() -> None:
    dispatcher = full()
    due_s = 4 + refused(dispatcher, ticket("early")).retry_after_s
    dispatcher.cancel("w0")
    assert refused(dispatcher, ticket("anew")).num_waiting == ROOM - ROOM // 8
    dispatcher.enqueue(make_ticket("early-again", content="early"), "ingress", due_s)
    assert "early-again" in waiting(dispatcher, now_s=due_s)


def test_nobody_who_waits_is_shed_for_a_promise() -> None:
    dispatcher = full(priority=-10)
    for number in range(50):
        refused(dispatcher, ticket(f"more{number}", -10))
    dispatcher.enqueue(ticket("standard", 0), "ingress", 4)
    assert len(dispatcher.drain_events()) == 1, "one makes room for one"
    assert dispatcher.num_waiting == ROOM - ROOM // 8


def test_what_one_tenant_was_promised_takes_no_room_from_another() -> None:
    dispatcher = full()
    for number in range(50):
        refused(dispatcher, ticket(f"more{number}"))
    dispatcher.cancel("w0")
    dispatcher.enqueue(ticket("other", tenant="other"), "ingress", 4)
    assert "other" in waiting(dispatcher, now_s=4)


def test_what_bulk_work_was_promised_takes_no_room_from_standard_work() -> None:
    dispatcher = full()
    for number in range(50):
        refused(dispatcher, ticket(f"bulk{number}", -10))
    dispatcher.cancel("w0")
    dispatcher.enqueue(ticket("standard"), "ingress", 4)
    assert "standard" in waiting(dispatcher, now_s=4)


def test_nobody_is_refused_for_a_promise_while_slots_are_idle() -> None:
    """They come together: none has been granted its slot yet when the next one asks."""
    dispatcher = full()
    for number in range(ROOM // 2):
        refused(dispatcher, ticket(f"more{number}"))
    dispatcher.reconfigure(dispatcher.policy, AdmissionBounds(max_waiting=ROOM, max_wait_s=0.001))
    for lease_id in ["runs", *waiting(dispatcher, now_s=4)]:
        dispatcher.cancel(lease_id)
    dispatcher.register_replica(make_replica("r1", max_num_seqs=3))
    together = [f"anew{number}" for number in range(3)]
    for lease_id in together:
        dispatcher.enqueue(ticket(lease_id), "ingress", 4)
    assert granted(dispatcher, now_s=4) == together
    with pytest.raises(WaitTooLong):
        dispatcher.enqueue(ticket("one too many"), "ingress", 4)


def test_urgent_requests_that_come_together_are_not_refused_for_one_another_where_each_may_take_a_place() -> None:
    dispatcher = Dispatcher(ScorePolicy(), AdmissionBounds())
    dispatcher.register_replica(make_replica("r1", max_num_seqs=4, parked_limit=4))
    bulk = [f"bulk{number}" for number in range(5)]
    for lease_id in bulk:
        dispatcher.enqueue(ticket(lease_id, -10), "ingress", 0)
    for lease_id in granted(dispatcher):
        dispatcher.claim(lease_id, "r1")
    for second in range(1, 4):
        dispatcher.observe_service("r1", 10 * second, second)
    urgent = [f"urgent{number}" for number in range(4)]
    for lease_id in urgent:
        dispatcher.enqueue(make_ticket(lease_id, priority=10, deadline_s=2.5), "ingress", 4)
    assert granted(dispatcher, now_s=4) == urgent
