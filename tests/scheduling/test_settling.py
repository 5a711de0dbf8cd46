"""What a request was served is known in the end, whoever tells of its end first."""

from __future__ import annotations

import pytest

from scheduling.dispatcher import Dispatcher
from scheduling.unsettled import Unsettled
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.dispatching import granted, waiting

NUM_SERVED = 400


def one_runs_and_many_wait() -> Dispatcher:
    """A request of tenant `a` runs; one of `a` waits, and many small ones of `b`."""
    dispatcher = make_dispatcher(make_replica("r1", max_num_seqs=1, kv_tokens=100_000, max_model_len=50_000))
    dispatcher.enqueue(make_ticket("a1", tenant="a", max_output_tokens=4_000), "ingress", 0)
    assert granted(dispatcher) == ["a1"]
    dispatcher.claim("a1", "r1")
    dispatcher.enqueue(make_ticket("a2", tenant="a"), "ingress", 0)
    for number in range(60):
        dispatcher.enqueue(make_ticket(f"b{number}", tenant="b"), "ingress", 0)
    return dispatcher


def num_before_a2(dispatcher: Dispatcher) -> int:
    """How many of `b` have their turn first: as much service as `a` is charged."""
    return waiting(dispatcher).index("a2")


@pytest.mark.parametrize("told", [[None, NUM_SERVED], [NUM_SERVED, None], [NUM_SERVED, NUM_SERVED], [NUM_SERVED]])
def test_a_tenant_is_charged_what_it_was_served_in_whatever_order_the_end_is_told(told: list[int | None]) -> None:
    dispatcher = one_runs_and_many_wait()
    for num_served in told:
        dispatcher.release("a1", num_served)
    assert num_before_a2(dispatcher) == NUM_SERVED // 20


def test_what_a_draining_replica_serves_to_the_end_is_charged() -> None:
    dispatcher = one_runs_and_many_wait()
    dispatcher.remove_replica("r1")
    dispatcher.release("a1", NUM_SERVED)
    assert num_before_a2(dispatcher) == NUM_SERVED // 20


def test_what_a_replica_served_before_it_began_anew_is_charged() -> None:
    dispatcher = one_runs_and_many_wait()
    again = make_replica("r1", max_num_seqs=1, kv_tokens=100_000, max_model_len=50_000, incarnation=2)
    dispatcher.register_replica(again)
    dispatcher.release("a1", NUM_SERVED)
    assert num_before_a2(dispatcher) == NUM_SERVED // 20


def test_what_runs_for_an_ingress_that_is_gone_is_charged_when_it_ends() -> None:
    dispatcher = one_runs_and_many_wait()
    dispatcher.enqueue(make_ticket("other-a", tenant="a"), "other", 0)
    dispatcher.drop_owner("ingress")
    for number in range(60):
        dispatcher.enqueue(make_ticket(f"c{number}", tenant="b"), "other", 0)
    dispatcher.release("a1", NUM_SERVED)
    assert waiting(dispatcher).index("other-a") == NUM_SERVED // 20


def test_only_the_latest_ends_are_remembered() -> None:
    unsettled = Unsettled(max_remembered=2)
    dispatcher = make_dispatcher()
    for name in ("a", "b", "c"):
        dispatcher.enqueue(make_ticket(name), "ingress", 0)
    for queued in dispatcher._room.queue:
        unsettled.put(queued)
    assert (len(unsettled), unsettled.take("a")) == (2, None)
    assert unsettled.take("c") is not None
