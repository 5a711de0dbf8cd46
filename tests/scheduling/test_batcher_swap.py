"""How a preempted sequence's blocks are taken away and given back: swap, recompute, or never; and how often."""

from __future__ import annotations

import pytest

from scheduling.batch_plan import Preemption
from scheduling.batcher import Batcher, Plan
from scheduling.churn_budget import BURST_TOKENS
from scheduling.cost_model import EngineCosts
from scheduling.preemption import MIN_PROGRESS_TOKENS
from scheduling.sequence import Sequence, SequenceStatus
from scheduling.swap_area import BlockCopies
from tests.scheduling.batching import ids, make_batcher, make_sequence, parked, run_step

SWAP_IS_CHEAP = EngineCosts(prefill_token_s=1.0, copy_bytes_per_s=1e9, block_bytes=1)
SWAP_IS_DEAR = EngineCosts(prefill_token_s=1.0, copy_bytes_per_s=1.0, block_bytes=100)


def preempted_once(victim: Sequence, **settings: object) -> tuple[Batcher, Plan]:
    """The victim has computed nine tokens in three blocks when an urgent one takes the only slot."""
    batcher = make_batcher(victim, max_num_seqs=1, **settings)  # type: ignore[arg-type]
    run_step(batcher)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, num_tokens=5, max_num_tokens=7))
    return batcher, run_step(batcher)


def victim_of(num_tokens: int = 8) -> Sequence:
    return make_sequence("victim", num_tokens=num_tokens)


def test_by_swap_computed_blocks_go_out_and_come_back_to_where_they_are_needed() -> None:
    victim = victim_of()
    victim.reuse_prefix = False
    batcher, plan = preempted_once(victim, num_swap_slots=3, preemption="swap")
    assert [block for block, _ in plan.copies.outward] == [0, 1, 2]
    assert (plan.copies.inward, victim.num_computed, batcher.num_parked) == ([], 0, 1)
    run_step(batcher)
    plan = batcher.plan()
    slots = [slot for slot, _ in plan.copies.inward]
    assert (sorted(slots), plan.copies.outward) == ([0, 1, 2], [])
    assert [block for _, block in plan.copies.inward] == batcher._pool.block_table("victim")[:3]
    assert [(part.start, part.num_tokens) for part in plan.decode] == [(9, 1)]
    assert batcher.preemptions.num_recomputed_tokens == 0


def test_what_is_still_cached_is_not_copied_back() -> None:
    batcher, _ = preempted_once(victim_of(), num_swap_slots=3, preemption="swap")
    run_step(batcher)
    plan = batcher.plan()
    assert [len(plan.copies.inward), plan.decode[0].start] == [1, 9]
    counts = batcher.preemptions
    assert (counts.num_by_swap, counts.num_blocks_out, counts.num_blocks_in) == (1, 3, 1)


@pytest.mark.parametrize(
    ("preemption", "num_swap_slots", "costs", "is_swapped"),
    [
        ("auto", 3, SWAP_IS_CHEAP, True),
        ("auto", 3, SWAP_IS_DEAR, False),
        ("swap", 3, SWAP_IS_DEAR, True),
        ("auto", 2, SWAP_IS_CHEAP, False),
        ("swap", 2, SWAP_IS_CHEAP, False),
        ("recompute", 3, SWAP_IS_CHEAP, False),
    ],
)
def test_blocks_are_swapped_where_that_is_asked_for_or_cheaper_and_there_are_slots(
    preemption: Preemption, num_swap_slots: int, costs: EngineCosts, is_swapped: bool
) -> None:
    batcher = make_batcher(victim_of(), max_num_seqs=1, preemption=preemption, num_swap_slots=num_swap_slots)
    run_step(batcher)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9))
    plan = batcher.plan(costs)
    assert (parked(plan), len(plan.copies.outward)) == (["victim"], 3 if is_swapped else 0)
    counts = batcher.preemptions
    assert (counts.num_by_swap, counts.num_by_recompute) == (int(is_swapped), int(not is_swapped))


def test_blocks_that_another_holds_too_count_as_free_for_a_recompute() -> None:
    keeper = make_sequence("keeper", priority=20, num_tokens=8)
    batcher = make_batcher(keeper, max_num_seqs=2, num_swap_slots=8)
    run_step(batcher)
    sharer = Sequence("sharer", make_sequence("x").stamp, [*keeper.token_ids[:8], 1, 2], 10, 16)
    batcher.add(sharer)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9))
    three_tokens_s = EngineCosts(prefill_token_s=1.0, copy_bytes_per_s=1.0, block_bytes=1)  # a swap of 3 costs 6 s
    assert (parked(plan := batcher.plan(three_tokens_s)), plan.copies.outward) == (["sharer"], [])


def test_a_parked_sequence_that_is_cancelled_leaves_no_slot_behind() -> None:
    batcher, _ = preempted_once(victim_of(), num_swap_slots=3, preemption="swap")
    batcher.finish("victim")
    assert batcher._pool.swap.num_free == 3
    assert batcher.num_parked == 0


def test_with_preemption_off_nobody_gives_way_whatever_the_priority() -> None:
    batcher = make_batcher(make_sequence("bulk"), max_num_seqs=1, preemption="off")
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=99))
    assert (ids(run_step(batcher).slices), batcher.num_waiting) == (["bulk"], 1)


def test_with_preemption_off_a_newcomer_waits_until_all_longest_answers_are_sure_of_their_blocks() -> None:
    first, second = (make_sequence(name, num_tokens=4, max_num_tokens=16) for name in ("first", "second"))
    batcher = make_batcher(first, second, num_blocks=7, preemption="off")
    assert ids(run_step(batcher).slices) == ["first"]
    batcher = make_batcher(
        *(make_sequence(name, num_tokens=4, max_num_tokens=16) for name in ("first", "second")),
        num_blocks=8,
        preemption="off",
    )
    assert ids(run_step(batcher).slices) == ["first", "second"]


def test_a_sequence_is_not_preempted_by_a_newcomer_again_before_it_has_got_on() -> None:
    victim = make_sequence("victim", num_tokens=8, max_num_tokens=100)
    batcher, _ = preempted_once(victim, num_swap_slots=30, preemption="swap")
    run_step(batcher)
    assert ids(run_step(batcher).slices) == ["victim"]
    batcher.add(make_sequence("again", priority=9))
    steps = [parked(run_step(batcher)) for _ in range(MIN_PROGRESS_TOKENS)]
    assert steps == [[]] * (MIN_PROGRESS_TOKENS - 1) + [["victim"]]


def test_newcomers_preempt_nobody_while_the_budget_is_spent() -> None:
    victim = victim_of()
    victim.reuse_prefix = False  # all of it would have to be computed again
    batcher = make_batcher(victim, max_num_seqs=1)
    run_step(batcher)
    batcher._budget.spend(BURST_TOKENS)
    batcher.add(make_sequence("urgent", priority=9))
    assert (ids(run_step(batcher).slices), batcher.num_waiting) == (["victim"], 1)


def test_taking_a_slot_costs_next_to_nothing_where_the_victims_blocks_stay_cached() -> None:
    victim = make_sequence("victim", num_tokens=40, max_num_tokens=400)
    batcher = make_batcher(victim, max_num_seqs=1, num_swap_slots=100, num_blocks=1000)
    run_step(batcher)
    for urgent in range(100):
        batcher.add(make_sequence(f"urgent {urgent}", priority=9, max_num_tokens=5))
        assert ids(run_step(batcher).slices) == [f"urgent {urgent}"]
        for _ in range(MIN_PROGRESS_TOKENS + 4):
            run_step(batcher)
        if victim.status is SequenceStatus.FINISHED:
            break
    counts = batcher.preemptions
    assert counts.num_by_recompute > 5
    assert counts.num_by_swap == 0
    assert counts.num_recomputed_tokens < 4 * counts.num_by_recompute  # of the last block, which was not full


def test_what_was_charged_for_blocks_that_stayed_cached_is_given_back() -> None:
    victim = make_sequence("victim", num_tokens=40, max_num_tokens=44)
    batcher = make_batcher(victim, num_blocks=15)
    run_step(batcher)
    batcher._preempter.park(victim, BlockCopies())
    assert not batcher._budget.is_full
    batcher._preempter.start(victim, batcher._room._match(victim), BlockCopies())
    assert batcher._budget.is_full


def test_while_the_budget_is_overdrawn_only_those_are_admitted_whose_longest_answers_are_sure_of_their_blocks() -> None:
    batcher = make_batcher(make_sequence("first", max_num_tokens=16), num_blocks=7)
    run_step(batcher)
    batcher.add(make_sequence("second", max_num_tokens=16))
    batcher._budget.spend(BURST_TOKENS + 1)
    assert ids(run_step(batcher).slices) == ["first"]
    batcher._budget.earn(1_000)
    assert ids(run_step(batcher).slices) == ["first", "second"]


def test_while_the_budget_is_overdrawn_a_free_slot_is_an_urgent_newcomers_all_the_same() -> None:
    batcher = make_batcher(make_sequence("bulk", max_num_tokens=16), num_blocks=7)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, max_num_tokens=16))
    batcher._budget.spend(BURST_TOKENS + 1)
    assert "urgent" in ids(run_step(batcher).slices)
    assert batcher.num_parked == 0
