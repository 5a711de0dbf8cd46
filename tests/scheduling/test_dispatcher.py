"""The dispatcher, one behaviour at a time: who is granted, where, in which order, and what is seen of it."""

from __future__ import annotations

from scheduling.admission import AdmissionBounds
from scheduling.request import Grant
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.dispatching import ONE_SLOT, enqueue, granted, only_grant, waiting, why


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


def test_a_stamp_from_an_earlier_attempt_keeps_its_place_and_time_goes_on_from_it() -> None:
    dispatcher = make_dispatcher()
    enqueue(dispatcher, "new", now_s=100)
    moved = make_ticket("moved", stamp=Stamp(0, 50))
    assert dispatcher.enqueue(moved, "ingress", 101) == Stamp(0, 50)
    assert waiting(dispatcher) == ["moved", "new"]
    dispatcher.enqueue(make_ticket("ahead", stamp=Stamp(0, 500)), "ingress", 102)
    assert dispatcher.enqueue(make_ticket("late"), "ingress", 103).arrival_s == 501


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


def test_open_ended_requests_share_a_cache_that_could_not_hold_their_longest_answers() -> None:
    replica = make_replica(max_num_seqs=4, kv_tokens=4_000, max_model_len=4_000)
    dispatcher = make_dispatcher(replica)

    enqueue(dispatcher, "a", "b", "c", num_prompt_tokens=10, max_output_tokens=3_900)

    assert granted(dispatcher) == ["a", "b", "c"]
