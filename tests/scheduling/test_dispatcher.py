"""The dispatcher, one behaviour at a time: who is granted, where, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import DeadlinePassed, DeadlineUnmeetable, LeaseEnded, NeverFits, QueueFull
from scheduling.request import Grant
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket

ONE_SLOT = make_replica("one-slot", max_num_seqs=1)


def enqueue(dispatcher: Dispatcher, *lease_ids: str, now_s: float = 0, owner: str = "ingress", **ticket: Any) -> None:
    for lease_id in lease_ids:
        dispatcher.enqueue(make_ticket(lease_id, **ticket), owner, now_s)


def granted(dispatcher: Dispatcher, now_s: float = 0) -> list[str]:
    """Dispatches, and says who was granted, in order."""
    return [grant.lease_id for _, grant in dispatcher.dispatch(now_s)]


def only_grant(dispatcher: Dispatcher, now_s: float = 0) -> Grant:
    [(_, grant)] = dispatcher.dispatch(now_s)
    return grant


def waiting(dispatcher: Dispatcher, now_s: float = 0) -> list[str]:
    return [view.lease_id for view in dispatcher.snapshot(now_s).waiting]


def running(dispatcher: Dispatcher, now_s: float = 0) -> dict[str, tuple[str, ...]]:
    return {replica.replica_id: replica.running for replica in dispatcher.snapshot(now_s).replicas}


# Order and placement.


def test_the_highest_key_is_granted_first_whatever_the_order_of_arrival() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=2))
    enqueue(dispatcher, "bulk", priority=-10)
    enqueue(dispatcher, "urgent", priority=10, now_s=1)
    enqueue(dispatcher, "standard", priority=0, now_s=2)
    assert granted(dispatcher, now_s=2) == ["urgent", "standard"]
    assert waiting(dispatcher) == ["bulk"]


def test_waiting_long_enough_beats_a_later_urgent_request() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "bulk", priority=0, now_s=0)
    enqueue(dispatcher, "urgent", priority=5, now_s=51)
    assert granted(dispatcher, now_s=51) == ["bulk"]


def test_a_grant_names_its_owner_its_place_and_the_policy_of_the_order() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    dispatcher.enqueue(make_ticket("a", priority=3), "ingress-2", 10)
    [(owner, grant)] = dispatcher.dispatch(12)
    assert owner == "ingress-2"
    assert grant == Grant("a", "one-slot", Stamp(3, 10), dispatcher.policy, granted_s=12)


def test_the_replica_with_most_free_slots_is_chosen_then_most_free_tokens_then_the_lowest_id() -> None:
    dispatcher = make_dispatcher(
        make_replica("d", max_num_seqs=2, kv_tokens=900),
        make_replica("c", max_num_seqs=2, kv_tokens=900),
        make_replica("b", max_num_seqs=2, kv_tokens=500),
        make_replica("a", max_num_seqs=1, kv_tokens=900),
    )
    enqueue(dispatcher, "1", "2", "3", "4", "5")
    chosen = [grant.replica_id for _, grant in dispatcher.dispatch(0)]
    assert chosen == ["c", "d", "b", "a", "c"]


def test_a_request_goes_only_where_its_longest_output_fits_the_context() -> None:
    dispatcher = make_dispatcher(make_replica("short", max_num_seqs=8, max_model_len=50), ONE_SLOT)
    enqueue(dispatcher, "long-1", "long-2", num_prompt_tokens=60)
    assert only_grant(dispatcher).replica_id == "one-slot"
    assert why(dispatcher) == ["no free slot"]


def test_a_head_without_kv_room_reserves_it_and_nothing_bypasses_it() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=8, kv_tokens=100))
    enqueue(dispatcher, "first", num_prompt_tokens=50)
    assert granted(dispatcher) == ["first"]
    enqueue(dispatcher, "large", num_prompt_tokens=70)
    enqueue(dispatcher, "small", num_prompt_tokens=1)
    assert granted(dispatcher) == []
    dispatcher.release("first")
    assert granted(dispatcher) == ["large", "small"]


def test_without_a_replica_tickets_wait_for_one() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "a")
    assert granted(dispatcher) == []
    dispatcher.register_replica(ONE_SLOT)
    assert granted(dispatcher) == ["a"]


def test_a_clock_that_steps_back_reorders_nobody() -> None:
    dispatcher = make_dispatcher(make_replica())
    enqueue(dispatcher, "first", now_s=100)
    enqueue(dispatcher, "second", now_s=40)
    assert granted(dispatcher, now_s=30) == ["first", "second"]


def test_a_stamp_from_an_earlier_attempt_keeps_its_place_and_moves_the_clock() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "new", now_s=100)
    moved = make_ticket("moved", stamp=Stamp(0, 50))
    assert dispatcher.enqueue(moved, "ingress", 101) == Stamp(0, 50)
    assert waiting(dispatcher) == ["moved", "new"]
    dispatcher.enqueue(make_ticket("ahead", stamp=Stamp(0, 500)), "ingress", 102)
    assert dispatcher.enqueue(make_ticket("late"), "ingress", 103).arrival_s == 500


# Requests that cannot be served.


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


# Ends.


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


# Claims.


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


# Replicas that come, go and come back.


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
    assert dispatcher.remove_replica("replica-1") == ["a", "b"]
    assert dispatcher.remove_replica("replica-1") == []
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


# New weights.


def test_new_weights_are_a_new_epoch_and_reorder_those_who_wait() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "bulk", now_s=0)
    enqueue(dispatcher, "urgent", priority=1, now_s=50)
    assert waiting(dispatcher) == ["bulk", "urgent"]
    dispatcher.reconfigure(ScorePolicy(alpha=10, beta=0.1), AdmissionBounds())
    assert dispatcher.policy == ScorePolicy(alpha=10, beta=0.1, epoch=1)
    assert waiting(dispatcher) == ["urgent", "bulk"]


def test_the_same_weights_are_the_same_epoch() -> None:
    dispatcher = make_dispatcher()
    dispatcher.reconfigure(ScorePolicy(epoch=7), AdmissionBounds(max_waiting=3))
    assert dispatcher.policy.epoch == 0
    assert dispatcher.bounds.max_waiting == 3


# What is seen from outside.


def test_the_snapshot_shows_who_waits_in_order_and_never_a_prompt() -> None:
    dispatcher = make_dispatcher(ONE_SLOT)
    enqueue(dispatcher, "runs", "bulk", priority=-1, now_s=0)
    assert granted(dispatcher) == ["runs"]
    enqueue(dispatcher, "urgent", priority=5, num_prompt_tokens=77, now_s=4)
    snapshot = dispatcher.snapshot(6)
    first, second = snapshot.waiting
    assert (first.lease_id, first.request_id, first.priority, first.waited_s) == ("urgent", "request-of-urgent", 5, 2)
    assert (first.num_prompt_tokens, first.service_class, first.tenant) == (77, "standard", "default")
    assert first.key > second.key
    assert (snapshot.num_running, snapshot.waiting_tokens) == (1, 87 + 20)


def test_the_snapshot_says_why_a_ticket_waits() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "a", num_prompt_tokens=60)
    assert why(dispatcher) == ["no replica"]
    dispatcher.register_replica(make_replica(max_num_seqs=2, kv_tokens=100))
    assert why(dispatcher) == ["ready"]
    dispatcher.quarantine("replica-1")
    assert why(dispatcher) == ["replica quarantined"]
    dispatcher.register_replica(make_replica(max_num_seqs=2, kv_tokens=100))
    assert granted(dispatcher) == ["a"]
    enqueue(dispatcher, "large", num_prompt_tokens=60)
    enqueue(dispatcher, "small", num_prompt_tokens=1)
    assert why(dispatcher) == ["no KV room", "room reserved for the head"]
    dispatcher.register_replica(make_replica(max_num_seqs=1, kv_tokens=100))
    assert why(dispatcher) == ["no free slot", "no free slot"]


def why(dispatcher: Dispatcher) -> list[str]:
    return [view.why.value for view in dispatcher.snapshot(0).waiting]


def test_open_ended_requests_share_a_cache_that_could_not_hold_their_longest_answers() -> None:
    replica = make_replica(max_num_seqs=4, kv_tokens=4_000, max_model_len=4_000)
    dispatcher = make_dispatcher(replica)

    enqueue(dispatcher, "a", "b", "c", num_prompt_tokens=10, max_output_tokens=3_900)

    assert granted(dispatcher) == ["a", "b", "c"]
