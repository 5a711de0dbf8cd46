"""Counting blocks decides what naming them decides, where no two sequences share any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.batch_plan import BatchLimits, Preemption
from scheduling.batcher import Batcher
from scheduling.block_account import BlockAccount
from scheduling.kv_blocks import BlockPool
from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import Sequence
from simulation.counted_blocks import CountedBlocks

BLOCK_SIZE, SWAP_SLOTS = 4, 5

Newcomer = tuple[int, int, int]  # priority, tokens of prompt and of answer
newcomers = st.tuples(st.integers(0, 12), st.integers(1, 30), st.integers(1, 20))


def batcher_over(pool: BlockAccount, preemption: Preemption) -> Batcher:
    batcher = Batcher(BatchLimits(3, 16, parked_limit=4, preemption=preemption), pool)
    batcher.set_policy(ScorePolicy())
    return batcher


def sequence(number: int, newcomer: Newcomer) -> Sequence:
    priority, num_prompt, num_output = newcomer
    seq_id = f"sequence {number}"
    return Sequence(seq_id, Stamp(priority, number), [0] * num_prompt, num_prompt, num_prompt + num_output, salt=seq_id)


def step(batcher: Batcher) -> list[tuple[str, int, int]]:
    """What the step computed, and of how many copies it made."""
    if not len(batcher):
        return []
    plan = batcher.plan()
    done = [(part.sequence.seq_id, part.start, part.num_tokens) for part in plan.slices]
    for part in plan.slices:
        batcher.record(part, 7 if part.completes else None)
        if len(part.sequence.token_ids) >= part.sequence.max_num_tokens:
            batcher.finish(part.sequence.seq_id)
    return [*done, ("copies", len(plan.copies.outward), len(plan.copies.inward))]


@given(
    st.lists(st.tuples(st.integers(0, 12), newcomers), min_size=1, max_size=12),
    st.sampled_from(["auto", "swap", "recompute", "off"]),
    st.integers(13, 40),
)
def test_every_step_is_the_same_over_counted_and_over_named_blocks(
    arrivals: list[tuple[int, Newcomer]], preemption: Preemption, num_blocks: int
) -> None:
    named, counted = (
        BlockPool(num_blocks, BLOCK_SIZE, SWAP_SLOTS),
        CountedBlocks(num_blocks, BLOCK_SIZE, SWAP_SLOTS),
    )
    one, other = batcher_over(named, preemption), batcher_over(counted, preemption)
    for number, (num_steps, newcomer) in enumerate([*arrivals, (300, (0, 1, 1))]):
        for _ in range(num_steps):
            assert step(one) == step(other)
            assert (named.num_free, named.swap.num_free) == (counted.num_free, counted.swap.num_free)
        one.add(sequence(number, newcomer))
        other.add(sequence(number, newcomer))
    assert one.preemptions == other.preemptions


def test_what_was_left_behind_first_is_evicted_first() -> None:
    pool = CountedBlocks(4, BLOCK_SIZE)
    for owner in ("first", "second"):
        assert pool.allocate(owner, 8, pool.match_prefix([0] * 8, owner))
        pool.record(owner, [0] * 8, 8)
    pool.free("first")
    pool.free("second")
    assert pool.allocate("third", 4, pool.match_prefix([0] * 4, "third"))
    left = {owner: len(pool.match_prefix([0] * 12, owner).block_ids) for owner in ("first", "second")}
    assert left == {"first": 1, "second": 2}


def test_an_owner_whose_content_is_bad_leaves_nothing_behind() -> None:
    pool = CountedBlocks(4, BLOCK_SIZE)
    pool.allocate("owner", 8, pool.match_prefix([0] * 8, "owner"))
    pool.record("owner", [0] * 8, 8)
    pool.free("owner", forget=True)
    assert pool.match_prefix([0] * 12, "owner").block_ids == []
    assert pool.num_free == 4


@pytest.mark.parametrize(("num_blocks", "block_size", "named"), [(0, 4, "num_blocks"), (4, 0, "block_size")])
def test_a_pool_of_nothing_is_refused_by_name(num_blocks: int, block_size: int, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named}: expected at least 1, got 0"):
        CountedBlocks(num_blocks, block_size)
