"""Who gives way when slots or blocks run out, and how whoever gave way comes back."""

from __future__ import annotations

from scheduling.batcher import Batcher, BatchLimits, Plan
from scheduling.kv_blocks import BlockPool
from scheduling.score import ScorePolicy
from tests.scheduling.batching import MARGIN, ids, make_batcher, make_sequence, parked, run_step


def test_a_newcomer_that_does_not_outrank_by_the_margin_waits_for_a_slot() -> None:
    batcher = make_batcher(make_sequence("bulk"), max_num_seqs=1)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=MARGIN))
    plan = run_step(batcher)
    assert (ids(plan.slices), parked(plan), batcher.num_waiting) == (["bulk"], [], 1)


def test_a_newcomer_that_outranks_by_more_than_the_margin_parks_the_worst() -> None:
    batcher = make_batcher(make_sequence("worst", priority=-1), make_sequence("bulk"), max_num_seqs=2)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=MARGIN + 1))
    plan, later = run_step(batcher), run_step(batcher)
    assert (ids(plan.slices), parked(plan)) == (["urgent"], ["worst"])
    assert (sorted(ids(later.slices)), parked(later)) == (["bulk", "urgent"], [])
    assert (batcher.num_running, batcher.num_parked, batcher.num_waiting) == (2, 1, 0)


def test_a_parked_sequence_comes_back_in_key_order_with_its_output_and_from_what_is_still_cached() -> None:
    victim = make_sequence("victim", num_tokens=8)
    batcher = make_batcher(victim, max_num_seqs=1)
    run_step(batcher)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, max_num_tokens=5))
    assert parked(run_step(batcher)) == ["victim"]
    assert victim.num_computed == 0
    batcher.add(make_sequence("late", arrival_s=1))
    plan = run_step(batcher)
    assert [(part.sequence.seq_id, part.start, part.num_tokens) for part in plan.slices] == [("victim", 8, 2)]
    assert victim.num_cached == 0


def test_no_newcomer_parks_anybody_at_the_parked_limit() -> None:
    batcher = make_batcher(make_sequence("a"), make_sequence("b"), max_num_seqs=2, parked_limit=1)
    run_step(batcher)
    for name in ("urgent", "too many"):
        batcher.add(make_sequence(name, priority=50))
    plan, later = run_step(batcher), run_step(batcher)
    assert (ids(plan.slices), parked(plan), batcher.num_waiting) == (["urgent"], ["b"], 1)
    assert (sorted(ids(later.slices)), parked(later), batcher.num_waiting) == (["a", "urgent"], [], 1)


def test_when_blocks_run_out_the_lowest_key_gives_way_whatever_the_margin() -> None:
    batcher = make_batcher(
        make_sequence("low", num_tokens=3), make_sequence("high", priority=1, num_tokens=3), num_blocks=4
    )
    run_step(batcher)
    plan = Plan()
    while not plan.preempted:
        plan = run_step(batcher)
    assert (parked(plan), ids(plan.slices)) == (["low"], ["high"])


def test_when_blocks_run_out_the_later_of_equals_gives_way_and_both_end() -> None:
    first, second = make_sequence("first", num_tokens=3), make_sequence("second", num_tokens=3)
    batcher = make_batcher(first, second, num_blocks=4)
    preempted = [seq_id for _ in range(60) for seq_id in parked(run_step(batcher))]
    assert (len(batcher), preempted) == (0, ["second"])


def test_when_blocks_run_out_the_last_in_order_parks_itself() -> None:
    low, high = make_sequence("low", max_num_tokens=12), make_sequence("high", priority=1, max_num_tokens=12)
    batcher = make_batcher(low, high, num_blocks=3)
    run_step(batcher)
    assert parked(run_step(batcher)) == ["low"]
    assert (low.num_computed, batcher.num_parked, batcher.num_running) == (0, 1, 1)


def test_equals_never_preempt_each_other_for_a_slot_even_without_a_margin() -> None:
    batcher = Batcher(BatchLimits(1, 64, preemption_margin_levels=0), BlockPool(64, 4))
    batcher.set_policy(ScorePolicy())
    batcher.add(make_sequence("running"))
    run_step(batcher)
    batcher.add(make_sequence("equal"))
    plan = run_step(batcher)
    assert (ids(plan.slices), parked(plan)) == (["running"], [])


def test_a_newcomer_parks_only_as_many_as_it_needs_and_nobody_in_vain() -> None:
    bulk = [make_sequence(f"bulk {i}", num_tokens=8, arrival_s=i) for i in range(3)]
    batcher = make_batcher(*bulk, num_blocks=9)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, num_tokens=16, max_num_tokens=20))
    assert parked(run_step(batcher)) == ["bulk 2", "bulk 1"]
    batcher = make_batcher(
        make_sequence("equal", priority=9, num_tokens=12), make_sequence("bulk", num_tokens=8), num_blocks=7
    )
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, num_tokens=24, max_num_tokens=28))
    assert parked(run_step(batcher)) == []
