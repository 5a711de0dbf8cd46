"""What the dispatcher does not serve: requests that fit nowhere, and deadlines that cannot be met."""

from __future__ import annotations

import pytest

from scheduling.errors import DeadlinePassed, DeadlineUnmeetable, NeverFits
from scheduling.score import Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.dispatching import ONE_SLOT, enqueue, granted, running


def test_what_no_replica_can_ever_hold_is_refused_with_the_sizes() -> None:
    dispatcher = make_dispatcher(make_replica(max_model_len=100), make_replica("small", max_model_len=50))
    enqueue(dispatcher, "fits", num_prompt_tokens=90, max_output_tokens=10)
    with pytest.raises(NeverFits) as refused:
        enqueue(dispatcher, "one-too-many", num_prompt_tokens=91, max_output_tokens=10)
    assert (refused.value.needed_tokens, refused.value.max_tokens) == (101, 100)


def test_a_head_that_no_replica_can_hold_any_more_is_given_up_rather_than_block() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "huge", num_prompt_tokens=5_000)
    enqueue(dispatcher, "small")
    dispatcher.register_replica(make_replica(max_model_len=1_000))
    assert granted(dispatcher) == ["small"]
    [event] = dispatcher.drain_events()
    assert (event.lease_id, event.owner, type(event.error)) == ("huge", "ingress", NeverFits)
    assert dispatcher.drain_events() == []


def test_a_deadline_that_has_gone_by_on_arrival_is_refused() -> None:
    dispatcher = make_dispatcher()
    with pytest.raises(DeadlineUnmeetable):
        dispatcher.enqueue(make_ticket("late", deadline_s=0), "ingress", 0)
    with pytest.raises(DeadlinePassed):
        dispatcher.enqueue(make_ticket("again", deadline_s=5, stamp=Stamp(0, 10)), "ingress", 15)
    assert dispatcher.num_waiting == 0


def test_a_waiting_ticket_expires_at_its_deadline_and_not_before() -> None:
    dispatcher = make_dispatcher()
    dispatcher.enqueue(make_ticket("a", deadline_s=5), "ingress", 10)
    assert dispatcher.next_due_s() == 15
    assert dispatcher.expire(14.9) == []
    [expired] = dispatcher.expire(15)
    assert (expired.lease_id, expired.owner, expired.request_id) == ("a", "ingress", "request-of-a")
    assert vars(expired.error) == {"deadline_s": 5, "waited_s": 5}
    assert dispatcher.num_waiting == 0
    assert dispatcher.next_due_s() is None


def test_a_ticket_past_its_deadline_is_never_granted() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    dispatcher.enqueue(make_ticket("a", deadline_s=5), "ingress", 0)
    assert granted(dispatcher, now_s=6) == []
    assert [event.lease_id for event in dispatcher.drain_events()] == ["a"]


def test_a_deadline_no_longer_counts_once_the_ticket_is_granted() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    dispatcher.enqueue(make_ticket("a", deadline_s=5), "ingress", 0)
    assert granted(dispatcher) == ["a"]
    dispatcher.claim("a", "one-slot")
    assert dispatcher.expire(100) == []
    assert running(dispatcher) == {"one-slot": ("a",)}
