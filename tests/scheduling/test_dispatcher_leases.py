"""How a lease ends or changes hands: releases, cancellations, owners that are lost, grants that nobody took."""

from __future__ import annotations

import pytest

from scheduling.admission import AdmissionBounds
from scheduling.errors import LeaseEnded, QueueFull
from scheduling.score import Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.dispatching import ONE_SLOT, enqueue, granted, only_grant, running, waiting


def test_releasing_twice_frees_one_slot() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=2))
    enqueue(dispatcher, "a", "b", "c", "d")
    assert granted(dispatcher) == ["a", "b"]
    dispatcher.release("a")
    dispatcher.release("a")
    assert granted(dispatcher) == ["c"]


def test_releasing_or_cancelling_what_is_unknown_changes_nothing() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a")
    dispatcher.release("unknown")
    dispatcher.cancel("unknown")
    assert granted(dispatcher) == ["a"]


def test_a_cancelled_ticket_is_not_granted_and_a_cancelled_lease_frees_its_slot() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "runs", "gives-up", "next")
    assert granted(dispatcher) == ["runs"]
    dispatcher.cancel("gives-up")
    dispatcher.cancel("runs")
    assert granted(dispatcher) == ["next"]


def test_asking_twice_for_the_same_lease_queues_it_once() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    first = dispatcher.enqueue(make_ticket("a"), "ingress", 10)
    assert dispatcher.enqueue(make_ticket("a"), "ingress", 20) == first
    assert granted(dispatcher, now_s=20) == ["a"]
    assert dispatcher.enqueue(make_ticket("a"), "ingress", 21) == first
    assert dispatcher.num_waiting == 0


def test_an_ended_lease_does_not_come_back_by_a_late_message() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == ["a"]
    dispatcher.release("a")
    dispatcher.claim("a", "one-slot")
    dispatcher.register_replica(ONE_SLOT, holding=["a"])
    assert running(dispatcher) == {"one-slot": ()}
    with pytest.raises(LeaseEnded):
        enqueue(dispatcher, "a")


def test_a_lost_ingress_takes_its_tickets_and_leases_along_and_nobody_elses() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "lost-running", "lost-waiting", owner="lost")
    enqueue(dispatcher, "kept", owner="alive")
    assert granted(dispatcher) == ["lost-running"]
    dispatcher.drop_owner("lost")
    assert granted(dispatcher) == ["kept"]
    assert dispatcher.num_waiting == 0


def test_the_waiting_tickets_of_an_ingress_that_comes_back_may_register_again() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "a", owner="flaky")
    dispatcher.drop_owner("flaky")
    enqueue(dispatcher, "a", owner="flaky")
    assert waiting(dispatcher) == ["a"]


def test_a_lease_that_never_reached_an_ingress_thought_gone_may_be_asked_for_again() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a", owner="flaky")
    assert granted(dispatcher) == ["a"]
    dispatcher.drop_owner("flaky")
    enqueue(dispatcher, "a", owner="flaky")
    assert granted(dispatcher) == ["a"]


def test_what_a_replica_still_runs_for_an_ingress_thought_gone_is_booked_again() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a", owner="flaky")
    assert granted(dispatcher) == ["a"]
    dispatcher.claim("a", "one-slot")
    dispatcher.drop_owner("flaky")
    dispatcher.register_replica(ONE_SLOT, holding=["a"])
    enqueue(dispatcher, "b")
    assert granted(dispatcher) == []


def test_a_grant_that_nobody_claims_in_time_returns_to_its_old_place() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a", "b", now_s=10)
    assert granted(dispatcher, now_s=10) == ["a"]
    assert dispatcher.next_due_s() == 11
    assert dispatcher.expire(10.9) == []
    assert waiting(dispatcher) == ["b"]
    assert dispatcher.expire(11) == []
    assert waiting(dispatcher) == ["a", "b"]
    assert only_grant(dispatcher, now_s=11).stamp == Stamp(0, 10)


def test_a_grant_that_never_reached_its_ingress_outlives_its_replica_and_waits_on() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == ["a"]
    dispatcher.remove_replica("one-slot")
    enqueue(dispatcher, "a")  # its ingress, which has heard of nothing, says everything anew
    dispatcher.register_replica(make_replica("another"))
    assert only_grant(dispatcher, now_s=1).replica_id == "another"


def test_a_claimed_grant_stays_until_it_is_released() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == ["a"]
    dispatcher.claim("a", "one-slot")
    dispatcher.expire(1_000)
    assert running(dispatcher) == {"one-slot": ("a",)}


def test_a_lease_that_went_back_to_the_heap_and_is_claimed_leaves_the_heap() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == ["a"]
    dispatcher.expire(1)
    dispatcher.claim("a", "one-slot")
    assert waiting(dispatcher) == []
    assert running(dispatcher) == {"one-slot": ("a",)}


def test_a_lease_granted_elsewhere_meanwhile_belongs_to_the_replica_that_claims_it() -> None:
    dispatcher = make_dispatcher(make_replica("slow", max_num_seqs=1))
    enqueue(dispatcher, "a")
    assert only_grant(dispatcher).replica_id == "slow"
    dispatcher.quarantine("slow")
    dispatcher.register_replica(make_replica("other", max_num_seqs=1))
    assert only_grant(dispatcher, now_s=1).replica_id == "other"
    dispatcher.claim("a", "slow")
    dispatcher.claim("a", "other")
    assert running(dispatcher) == {"other": (), "slow": ("a",)}


def test_a_late_claim_that_overfills_a_replica_stops_grants_until_it_has_room_again() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "late")
    assert granted(dispatcher) == ["late"]
    enqueue(dispatcher, "better", priority=5)
    assert granted(dispatcher, now_s=1) == ["better"]
    dispatcher.claim("late", "one-slot")
    enqueue(dispatcher, "next")
    dispatcher.release("better")
    assert granted(dispatcher, now_s=1) == []
    dispatcher.release("late")
    assert granted(dispatcher, now_s=1) == ["next"]


def test_a_lease_given_up_when_its_grant_had_gone_back_takes_up_a_slot_once_a_replica_claims_it() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "late", deadline_s=1)
    assert granted(dispatcher) == ["late"]
    assert [expired.lease_id for expired in dispatcher.expire(1)] == ["late"]
    dispatcher.claim("late", "one-slot")
    enqueue(dispatcher, "next", now_s=1)
    assert granted(dispatcher, now_s=1) == []
    dispatcher.release("late")
    assert granted(dispatcher, now_s=1) == ["next"]


def test_a_lease_given_up_is_not_queued_again_under_the_same_id() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "late", deadline_s=1)
    assert [expired.lease_id for expired in dispatcher.expire(1)] == ["late"]
    with pytest.raises(LeaseEnded):
        enqueue(dispatcher, "late", now_s=1)


def test_a_call_that_was_sent_has_longer_to_be_claimed_and_is_not_granted_again_meanwhile() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a", "b")
    assert granted(dispatcher) == ["a"]
    dispatcher.sent("a", "one-slot", 0.5)
    assert dispatcher.next_due_s() == 10.5
    assert granted(dispatcher, now_s=10.4) == []
    assert running(dispatcher) == {"one-slot": ("a",)}


def test_a_call_that_was_sent_and_never_claimed_frees_its_slot_and_is_not_granted_again() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a", "b")
    assert granted(dispatcher) == ["a"]
    dispatcher.sent("a", "one-slot", 0)
    assert granted(dispatcher, now_s=10) == ["b"]
    assert waiting(dispatcher) == []


def test_a_claim_books_a_lease_that_was_given_up_as_sent() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == ["a"]
    dispatcher.sent("a", "one-slot", 0)
    dispatcher.expire(10)
    dispatcher.register_replica(ONE_SLOT, holding=["a"])
    enqueue(dispatcher, "b", now_s=10)
    assert granted(dispatcher, now_s=10) == []
    assert running(dispatcher) == {"one-slot": ("a",)}


def test_a_grant_that_went_back_and_was_sent_after_all_leaves_the_heap() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == ["a"]
    dispatcher.expire(1)
    dispatcher.sent("a", "one-slot", 1)
    assert waiting(dispatcher) == []
    assert granted(dispatcher, now_s=2) == []
    assert running(dispatcher) == {"one-slot": ("a",)}


def test_word_that_a_call_was_sent_changes_nothing_once_it_is_claimed_or_over() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=2))
    enqueue(dispatcher, "claimed", "over")
    assert granted(dispatcher) == ["claimed", "over"]
    dispatcher.claim("claimed", "replica-1")
    dispatcher.release("over")
    dispatcher.sent("claimed", "replica-1", 0)
    dispatcher.sent("over", "replica-1", 0)
    dispatcher.expire(1_000)
    assert running(dispatcher) == {"replica-1": ("claimed",)}


def test_an_attempt_that_never_ran_frees_its_slot_and_does_not_count_as_served() -> None:
    dispatcher = make_dispatcher(ONE_SLOT, bounds=AdmissionBounds(max_waiting=1))
    enqueue(dispatcher, "failed", "next")
    assert granted(dispatcher) == ["failed"]
    dispatcher.fail("failed")
    dispatcher.fail("failed")
    assert granted(dispatcher, now_s=1) == ["next"]
    enqueue(dispatcher, "waits", now_s=2)
    with pytest.raises(QueueFull) as refused:
        enqueue(dispatcher, "refused", now_s=3)
    assert refused.value.retry_after_s == AdmissionBounds().default_retry_after_s
