"""Who is granted a place that somebody must give up first, and what becomes of whoever gave it up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduling.dispatcher import Dispatcher
from scheduling.events import Moved, Resumed
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket
from tests.scheduling.dispatching import enqueue, granted, only_grant, running, waiting, why

PREEMPTING = make_replica("r1", max_num_seqs=2, parked_limit=2)
MARGIN = PREEMPTING.preemption_margin_levels


def full(*extra: str) -> Dispatcher:
    """One replica whose slots are taken by two requests of priority 0, the later one last."""
    dispatcher = make_dispatcher(PREEMPTING)
    enqueue(dispatcher, "early", now_s=0)
    enqueue(dispatcher, "late", now_s=1)
    assert granted(dispatcher, now_s=1) == ["early", "late"]
    for lease_id in ("early", "late"):
        dispatcher.claim(lease_id, "r1")
    return dispatcher


def preempted() -> Dispatcher:
    """As `full`, but that an urgent request has taken the place of `late`."""
    dispatcher = full()
    enqueue(dispatcher, "urgent", priority=10, now_s=2)
    assert granted(dispatcher, now_s=2) == ["urgent"]
    dispatcher.claim("urgent", "r1")
    dispatcher.park("late", "r1")
    return dispatcher


def test_a_newcomer_that_outranks_a_running_request_by_the_margin_is_granted_into_a_full_replica() -> None:
    dispatcher = full()
    enqueue(dispatcher, "urgent", priority=10, now_s=2)
    assert only_grant(dispatcher, now_s=2).replica_id == "r1"


def test_one_that_does_not_waits_for_a_slot() -> None:
    dispatcher = full()
    enqueue(dispatcher, "important", priority=MARGIN, now_s=2)
    assert granted(dispatcher, now_s=2) == []


def test_a_replica_that_parks_nobody_is_granted_nothing_beyond_its_slots() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1))
    enqueue(dispatcher, "bulk")
    enqueue(dispatcher, "urgent", priority=100)
    assert granted(dispatcher) == ["urgent"]
    assert granted(dispatcher) == []


def test_the_newcomer_goes_where_the_lowest_key_of_all_runs() -> None:
    dispatcher = make_dispatcher(*(make_replica(name, max_num_seqs=1, parked_limit=1) for name in ("a", "b", "c")))
    for name, priority in (("1", 0), ("2", -20), ("3", -10)):
        enqueue(dispatcher, name, priority=priority)
    places = {grant.lease_id: grant.replica_id for _, grant in dispatcher.dispatch(0)}
    enqueue(dispatcher, "urgent", priority=10)
    assert only_grant(dispatcher).replica_id == places["2"]


def test_half_of_the_parked_places_are_kept_for_newcomers_above_standard_priority() -> None:
    dispatcher = make_dispatcher(make_replica("r1", max_num_seqs=4, parked_limit=4))
    enqueue(dispatcher, *(f"bulk-{number}" for number in range(4)), priority=-10)
    assert len(granted(dispatcher)) == 4

    enqueue(dispatcher, *(f"standard-{number}" for number in range(4)), priority=0)
    assert granted(dispatcher) == ["standard-0", "standard-1"]

    enqueue(dispatcher, *(f"urgent-{number}" for number in range(4)), priority=10)
    assert granted(dispatcher) == ["urgent-0", "urgent-1"]


def test_a_replica_whose_engine_parks_for_want_of_blocks_is_sent_no_more_than_it_can_hold() -> None:
    dispatcher = make_dispatcher(PREEMPTING)
    for priority, names in ((0, ("a", "b")), (3, ("c", "d")), (6, ("e", "f"))):
        enqueue(dispatcher, *names, priority=priority)
        for lease_id in granted(dispatcher):
            dispatcher.claim(lease_id, "r1")
            dispatcher.park(lease_id, "r1")
    assert sorted(waiting(dispatcher)) == ["a", "b", "c", "d", "e", "f"]
    assert [dispatcher.snapshot(0).replicas[0].running] == [("a", "b", "c", "d")]


def test_each_newcomer_must_outrank_a_victim_of_its_own() -> None:
    dispatcher = make_dispatcher(PREEMPTING)
    enqueue(dispatcher, "bulk", priority=-10)
    enqueue(dispatcher, "important", priority=8)
    assert granted(dispatcher) == ["important", "bulk"]
    enqueue(dispatcher, "urgent-1", "urgent-2", priority=10)
    assert granted(dispatcher) == ["urgent-1"], "the second would displace one that is as important"


def test_no_more_are_granted_than_may_be_parked() -> None:
    dispatcher = make_dispatcher(make_replica("r1", max_num_seqs=4, parked_limit=2))
    enqueue(dispatcher, *"abcd")
    assert len(granted(dispatcher)) == 4
    enqueue(dispatcher, "u1", "u2", "u3", priority=50)
    assert granted(dispatcher) == ["u1", "u2"]


def test_a_newcomer_gets_no_place_whose_cache_could_not_hold_it_even_then() -> None:
    dispatcher = make_dispatcher(make_replica("r1", max_num_seqs=1, kv_tokens=100, parked_limit=1))
    enqueue(dispatcher, "bulk", num_prompt_tokens=10)
    assert granted(dispatcher) == ["bulk"]
    dispatcher.register_replica(make_replica("r1", max_num_seqs=2, kv_tokens=100, parked_limit=1))
    enqueue(dispatcher, "other", num_prompt_tokens=60)
    assert granted(dispatcher) == ["other"]
    enqueue(dispatcher, "large", priority=50, num_prompt_tokens=80)
    assert granted(dispatcher) == [], "ten tokens and twenty are not enough"


def test_whoever_gave_way_waits_under_its_old_key_and_keeps_its_lease() -> None:
    dispatcher = preempted()
    enqueue(dispatcher, "newer", now_s=3)
    assert waiting(dispatcher, now_s=3) == ["late", "newer"]
    assert why(dispatcher) == ["gave way on its replica", "no free slot"]
    assert running(dispatcher)["r1"] == ("early", "urgent", "late")
    assert dispatcher.num_running == 3


def test_a_freed_slot_goes_to_the_parked_one_if_it_is_next() -> None:
    dispatcher = preempted()
    enqueue(dispatcher, "newer", now_s=3)
    dispatcher.release("urgent")
    assert granted(dispatcher, now_s=4) == []
    assert dispatcher.drain_events() == [Resumed("r1", "late", Stamp(0, 1))]
    assert waiting(dispatcher, now_s=4) == ["newer"]


def test_a_freed_slot_goes_to_a_better_newcomer_before_the_parked_one() -> None:
    dispatcher = preempted()
    enqueue(dispatcher, "better", priority=1, now_s=3)
    dispatcher.release("urgent")
    assert granted(dispatcher, now_s=4) == ["better"]
    assert dispatcher.drain_events() == []
    assert waiting(dispatcher, now_s=4) == ["late"]


def test_a_parked_one_moves_when_only_another_replica_has_room() -> None:
    dispatcher = preempted()
    dispatcher.register_replica(make_replica("r2", max_num_seqs=1))
    assert granted(dispatcher, now_s=3) == []
    assert dispatcher.drain_events() == [Moved("r1", "late")]
    dispatcher.release("late")  # its engine has given it up
    again = make_ticket("late+1", stamp=Stamp(0, 1))
    dispatcher.enqueue(again, "ingress", 3)
    assert only_grant(dispatcher, now_s=3).replica_id == "r2"


def moving() -> Dispatcher:
    """As `preempted`, but that `late` was told to move to the only slot of another replica, and `newer` waits."""
    dispatcher = preempted()
    enqueue(dispatcher, "newer", now_s=2)
    dispatcher.register_replica(make_replica("r2", max_num_seqs=1))
    assert granted(dispatcher, now_s=3) == []
    assert dispatcher.drain_events() == [Moved("r1", "late")]
    dispatcher.release("late")
    return dispatcher


def test_the_place_that_one_moves_to_is_kept_for_it() -> None:
    dispatcher = moving()
    assert granted(dispatcher, now_s=3.5) == []
    dispatcher.enqueue(make_ticket("late+1", stamp=Stamp(0, 1)), "ingress", 3.5)
    assert granted(dispatcher, now_s=3.5) == ["late+1"]
    assert waiting(dispatcher) == ["newer"]


def test_it_is_kept_for_no_longer_than_a_grant_is() -> None:
    dispatcher = moving()
    assert dispatcher.next_due_s() == 4.0
    assert granted(dispatcher, now_s=4.1) == ["newer"]


def test_other_weights_come_into_force_while_a_place_is_kept() -> None:
    dispatcher = moving()
    dispatcher.reconfigure(ScorePolicy(alpha=2.0, beta=0.1), dispatcher.bounds)
    enqueue(dispatcher, "urgent-too", priority=50, now_s=3.5)
    assert {grant.replica_id for _, grant in dispatcher.dispatch(3.5)} == {"r1"}


def test_a_better_newcomer_takes_it_when_the_one_that_moves_asks() -> None:
    dispatcher = moving()
    enqueue(dispatcher, "better", priority=1, now_s=3.5)
    dispatcher.enqueue(make_ticket("late+1", stamp=Stamp(0, 1)), "ingress", 3.5)
    assert granted(dispatcher, now_s=3.5) == ["better"]


def test_a_parked_one_that_is_cancelled_is_gone() -> None:
    dispatcher = preempted()
    dispatcher.cancel("late")
    dispatcher.release("urgent")
    assert granted(dispatcher, now_s=3) == []
    assert (dispatcher.drain_events(), waiting(dispatcher)) == ([], [])
    assert running(dispatcher)["r1"] == ("early",)


def test_a_parked_one_ends_with_its_replica() -> None:
    dispatcher = preempted()
    dispatcher.remove_replica("r1")
    assert (waiting(dispatcher), dispatcher.num_running) == ([], 0)
    assert dispatcher.drain_events() == [Moved("r1", "late")], "it may only be draining"


def test_a_parked_one_ends_when_its_replica_begins_anew() -> None:
    dispatcher = preempted()
    dispatcher.register_replica(replace(PREEMPTING, incarnation=2))
    assert (waiting(dispatcher), running(dispatcher)["r1"]) == ([], ())
    assert granted(dispatcher, now_s=3) == []
    assert dispatcher.drain_events() == []


def test_a_parked_one_is_never_shed_and_its_deadline_is_over() -> None:
    dispatcher = make_dispatcher(make_replica("r1", max_num_seqs=1, parked_limit=1))
    dispatcher.enqueue(make_ticket("bulk", priority=-10, deadline_s=5), "ingress", 0)
    enqueue(dispatcher, "urgent", priority=10)
    assert granted(dispatcher) == ["urgent"]
    dispatcher.release("urgent")
    assert granted(dispatcher) == ["bulk"]
    dispatcher.claim("bulk", "r1")
    enqueue(dispatcher, "more", priority=10)
    assert granted(dispatcher) == ["more"]
    dispatcher.claim("more", "r1")
    dispatcher.park("bulk", "r1")
    assert dispatcher.expire(100) == []
    assert waiting(dispatcher, now_s=100) == ["bulk"]


def test_one_that_gives_way_on_a_replica_that_drains_moves() -> None:
    dispatcher = full()
    enqueue(dispatcher, "urgent", priority=10, now_s=2)
    assert granted(dispatcher, now_s=2) == ["urgent"]
    dispatcher.remove_replica("r1")  # it goes on with what it runs, and `urgent` is on its way there
    dispatcher.park("late", "r1")
    assert dispatcher.drain_events() == [Moved("r1", "late")]


def test_one_that_gives_way_and_is_of_no_ticket_known_here_moves() -> None:
    dispatcher = make_dispatcher(PREEMPTING)
    enqueue(dispatcher, "late", deadline_s=1)
    assert granted(dispatcher) == ["late"]
    assert [expired.lease_id for expired in dispatcher.expire(1)] == ["late"]
    dispatcher.claim("late", "r1")  # the grant had been taken after all
    dispatcher.park("late", "r1")
    assert dispatcher.drain_events() == [Moved("r1", "late")], "it has no place here that it could wait at"


def test_one_that_gave_way_and_that_only_a_replica_has_told_of_moves_when_that_drains() -> None:
    dispatcher = make_dispatcher()
    dispatcher.register_replica(PREEMPTING, holding=["late"], parked=["late"])
    dispatcher.remove_replica("r1")
    assert dispatcher.drain_events() == [Moved("r1", "late")]


def test_one_that_went_on_by_itself_waits_no_more() -> None:
    dispatcher = preempted()
    dispatcher.register_replica(PREEMPTING, holding=["early", "urgent", "late"])
    assert (waiting(dispatcher), dispatcher.num_running) == ([], 3)
    dispatcher.release("urgent")
    assert granted(dispatcher, now_s=3) == []
    assert dispatcher.drain_events() == []
    enqueue(dispatcher, "next", now_s=3)
    assert granted(dispatcher, now_s=3) == [], "its slot is taken"


def test_a_call_that_is_claimed_too_late_is_known_again_and_may_give_way() -> None:
    dispatcher = make_dispatcher(make_replica("r1", max_num_seqs=1, parked_limit=1))
    enqueue(dispatcher, "slow", now_s=0)
    assert granted(dispatcher, now_s=0) == ["slow"]
    dispatcher.sent("slow", "r1", 0)
    assert granted(dispatcher, now_s=100) == []  # nobody has claimed it, and its place is free
    assert dispatcher.num_running == 0
    dispatcher.claim("slow", "r1")
    enqueue(dispatcher, "urgent", priority=50, now_s=100)
    assert granted(dispatcher, now_s=100) == ["urgent"]
    dispatcher.park("slow", "r1")
    assert waiting(dispatcher, now_s=100) == ["slow"]


def test_those_who_run_give_way_for_want_of_cache_as_they_do_for_want_of_slots() -> None:
    dispatcher = make_dispatcher(make_replica("r1", max_num_seqs=8, kv_tokens=100, parked_limit=4))
    for name in ("a", "b", "c", "d"):
        enqueue(dispatcher, name, num_prompt_tokens=14, priority=-10)
    assert len(granted(dispatcher)) == 4  # each is expected to come to 24
    enqueue(dispatcher, "standard", num_prompt_tokens=40, priority=-6)
    assert granted(dispatcher) == [], "it does not outrank them by the margin"
    dispatcher.cancel("standard")
    enqueue(dispatcher, "urgent", num_prompt_tokens=40, priority=10)
    assert granted(dispatcher) == ["urgent"]
    enqueue(dispatcher, "huge", num_prompt_tokens=90, priority=10)
    assert granted(dispatcher) == [], "all four together are too few for both"


@pytest.mark.parametrize("times", [1, 2])
def test_parking_may_be_said_twice_and_before_the_claim(times: int) -> None:
    dispatcher = full()
    enqueue(dispatcher, "urgent", priority=10, now_s=2)
    assert granted(dispatcher, now_s=2) == ["urgent"]
    for _ in range(times):
        dispatcher.park("late", "r1")
        dispatcher.claim("late", "r1")
    assert waiting(dispatcher, now_s=2) == ["late"]


def test_a_restarted_queue_learns_who_is_parked_from_the_replica_and_who_it_is_from_the_ingress() -> None:
    dispatcher = make_dispatcher()
    dispatcher.register_replica(PREEMPTING, holding=["early", "urgent", "late"], parked=["late"])
    assert waiting(dispatcher) == []
    dispatcher.sent("late", "r1", 5, make_ticket("late", stamp=Stamp(0, 1)), "ingress")
    assert waiting(dispatcher) == ["late"]
    dispatcher.release("urgent")
    assert granted(dispatcher, now_s=6) == []
    assert dispatcher.drain_events() == [Resumed("r1", "late", Stamp(0, 1))]


def test_whoever_gave_way_waits_on_when_its_ingress_that_was_thought_gone_speaks_before_its_replica() -> None:
    dispatcher = preempted()
    dispatcher.drop_owner("ingress")
    for lease_id, priority, arrival_s in (("early", 0, 0), ("urgent", 10, 2), ("late", 0, 1)):
        ticket = make_ticket(lease_id, priority=priority, stamp=Stamp(priority, arrival_s))
        dispatcher.sent(lease_id, "r1", 3, ticket, "ingress")
    dispatcher.register_replica(PREEMPTING, holding=["early", "urgent", "late"], parked=["late"])
    assert waiting(dispatcher, now_s=3) == ["late"]
    dispatcher.release("urgent")
    assert granted(dispatcher, now_s=4) == []
    assert dispatcher.drain_events() == [Resumed("r1", "late", Stamp(0, 1))]


def test_a_restarted_queue_knows_the_keys_of_what_runs_from_the_ingress() -> None:
    dispatcher = make_dispatcher()
    for lease_id in ("early", "late"):
        dispatcher.sent(lease_id, "r1", 5, make_ticket(lease_id, stamp=Stamp(0, 1)), "ingress")
    dispatcher.register_replica(PREEMPTING, holding=["early", "late"])
    enqueue(dispatcher, "urgent", priority=10, now_s=6)
    assert granted(dispatcher, now_s=6) == ["urgent"]


def test_what_only_a_replica_has_told_of_is_outranked_by_nobody() -> None:
    dispatcher = make_dispatcher()
    dispatcher.register_replica(PREEMPTING, holding=["early", "late"])
    enqueue(dispatcher, "urgent", priority=100, now_s=6)
    assert granted(dispatcher, now_s=6) == []


def test_new_weights_decide_who_outranks_whom_from_then_on() -> None:
    dispatcher = full()
    enqueue(dispatcher, "urgent", priority=10, now_s=2)
    dispatcher.reconfigure(ScorePolicy(alpha=0.0, beta=1.0), dispatcher.bounds)
    assert granted(dispatcher, now_s=2) == []
    dispatcher.reconfigure(ScorePolicy(alpha=1.0, beta=0.1), dispatcher.bounds)
    assert granted(dispatcher, now_s=2) == ["urgent"]
