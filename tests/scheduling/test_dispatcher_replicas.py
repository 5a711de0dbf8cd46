"""Replicas that come, go and come back, and a queue that learns of them."""

from __future__ import annotations

from scheduling.score import Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.dispatching import ONE_SLOT, enqueue, granted, running, waiting


def test_registering_again_changes_nothing_that_runs() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a", "b")
    assert granted(dispatcher) == ["a"]
    dispatcher.claim("a", "one-slot")
    dispatcher.register_replica(ONE_SLOT, holding=["a"])
    dispatcher.register_replica(ONE_SLOT)
    assert granted(dispatcher) == []


def test_a_quarantined_replica_is_granted_nothing_until_it_registers_again() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    dispatcher.quarantine("one-slot")
    dispatcher.quarantine("unknown")
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == []
    dispatcher.register_replica(ONE_SLOT)
    assert granted(dispatcher) == ["a"]


def test_a_removed_replica_ends_what_ran_there_and_is_granted_nothing() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=2))
    enqueue(dispatcher, "a", "b", "c")
    assert granted(dispatcher) == ["a", "b"]
    for lease_id in ("a", "b"):
        dispatcher.claim(lease_id, "replica-1")
    for _ in range(2):
        dispatcher.remove_replica("replica-1")
    assert dispatcher.num_running == 0
    assert granted(dispatcher) == []
    assert waiting(dispatcher) == ["c"]


def test_a_queue_that_restarted_learns_what_runs_and_does_not_grant_those_slots() -> None:
    dispatcher = make_dispatcher()
    dispatcher.register_replica(make_replica(max_num_seqs=2), holding=["from-before"])
    enqueue(dispatcher, "a", "b")
    assert granted(dispatcher) == ["a"]
    dispatcher.release("from-before")
    assert granted(dispatcher) == ["b"]


def test_an_owner_that_registers_a_lease_which_runs_already_does_not_queue_it_again() -> None:
    dispatcher = make_dispatcher()
    dispatcher.register_replica(make_replica(), holding=["from-before"])
    stamp = Stamp(0, 5)
    assert dispatcher.enqueue(make_ticket("from-before", stamp=stamp), "ingress", 10) == stamp
    assert waiting(dispatcher) == []
    assert dispatcher.snapshot(10).replicas[0].reserved_tokens == 20
    dispatcher.drop_owner("ingress")
    assert dispatcher.num_running == 0


def test_a_claim_by_a_replica_that_registers_only_later_takes_up_its_slot_then() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "a", "b")
    dispatcher.claim("a", "one-slot")
    dispatcher.register_replica(ONE_SLOT)
    assert granted(dispatcher) == []
    assert running(dispatcher) == {"one-slot": ("a",)}


def test_a_claim_of_which_neither_lease_nor_replica_is_known_is_not_kept() -> None:
    dispatcher = make_dispatcher()
    dispatcher.claim("unknown", "nowhere")
    assert dispatcher.num_running == 0


def test_a_replica_that_started_anew_no_longer_runs_what_it_ran_before() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1, incarnation=1))
    enqueue(dispatcher, "a", "b")
    assert granted(dispatcher) == ["a"]
    dispatcher.claim("a", "replica-1")
    dispatcher.register_replica(make_replica(max_num_seqs=1, incarnation=2))
    assert granted(dispatcher) == ["b"]


def test_a_late_message_of_an_earlier_start_is_ignored() -> None:
    dispatcher = make_dispatcher(make_replica(incarnation=2))
    dispatcher.quarantine("replica-1")
    dispatcher.register_replica(make_replica(incarnation=1), holding=["gone"])
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == []
    assert running(dispatcher) == {"replica-1": ()}
