"""Who gave way to a newcomer waits for the word of whoever grants places, where there is one."""

from __future__ import annotations

from scheduling.batcher import Batcher
from tests.scheduling.batching import ids, make_batcher, make_sequence, parked, run_step


def displaced() -> Batcher:
    """`bulk` has given way to `urgent`, and is held."""
    batcher = make_batcher(make_sequence("bulk"), max_num_seqs=1)
    batcher.hold_displaced(True)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=50))
    assert [sequence.seq_id for sequence in run_step(batcher).held] == ["bulk"]
    return batcher


def test_one_that_is_held_leaves_a_free_slot_to_others() -> None:
    batcher = displaced()
    batcher.finish("urgent")
    assert (ids(run_step(batcher).slices), batcher.has_work) == ([], False)
    batcher.add(make_sequence("later", arrival_s=5))
    assert ids(run_step(batcher).slices) == ["later"]
    assert (batcher.num_running, batcher.num_parked, batcher.num_waiting) == (1, 1, 0)


def test_one_that_is_resumed_goes_on_at_its_place() -> None:
    batcher = displaced()
    batcher.finish("urgent")
    batcher.resume("bulk")
    batcher.add(make_sequence("later", arrival_s=5))
    assert ids(run_step(batcher).slices) == ["bulk"]


def test_when_nobody_grants_places_any_more_all_that_were_held_go_on() -> None:
    batcher = displaced()
    batcher.finish("urgent")
    batcher.hold_displaced(False)
    assert ids(run_step(batcher).slices) == ["bulk"]


def test_without_anybody_who_grants_places_nobody_is_held() -> None:
    batcher = make_batcher(make_sequence("bulk"), max_num_seqs=1)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=50))
    plan = run_step(batcher)
    assert (parked(plan), plan.held) == (["bulk"], [])


def test_one_that_gave_way_for_want_of_blocks_is_not_held() -> None:
    batcher = make_batcher(
        make_sequence("low", num_tokens=3), make_sequence("high", priority=1, num_tokens=3), num_blocks=4
    )
    batcher.hold_displaced(True)
    plan = run_step(batcher)
    while not plan.preempted:
        plan = run_step(batcher)
    assert (parked(plan), plan.held) == (["low"], [])


def test_one_that_is_held_can_end() -> None:
    batcher = displaced()
    batcher.finish("bulk")
    batcher.resume("bulk")
    assert (batcher.num_parked, "bulk" in batcher) == (0, False)
