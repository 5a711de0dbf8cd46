"""Many steps at once are what the same steps are one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduling.batch_plan import Preemption
from scheduling.batcher import Batcher
from scheduling.kv_blocks import BlockPool
from scheduling.swap_area import BlockCopies
from tests.scheduling.batching import make_batcher, make_sequence, run_step

TOKEN = 7
MANY = 1_000

Newcomer = tuple[int, int, int]  # priority, tokens of prompt and of answer
newcomers = st.tuples(st.integers(0, 12), st.integers(1, 20), st.integers(1, 30))


def playing(preemption: Preemption, num_blocks: int) -> Batcher:
    return make_batcher(num_blocks=num_blocks, max_num_seqs=3, num_swap_slots=4, preemption=preemption)


def add(batcher: Batcher, number: int, newcomer: Newcomer) -> None:
    priority, num_prompt, num_output = newcomer
    batcher.add(
        make_sequence(
            f"sequence {number}",
            priority=priority,
            arrival_s=number,
            num_tokens=num_prompt,
            max_num_tokens=num_prompt + num_output,
        )
    )


def skip_or_step(batcher: Batcher, most: int) -> int:
    """As many steps at once as may be and nobody ends in before the last, or one; returns how many."""
    running = list(batcher._order.running)
    most = min([most, *(each.max_num_tokens - len(each.token_ids) for each in running)])
    num_steps = batcher.num_steady_steps(most)
    if num_steps == 0:
        run_step(batcher)
        return 1
    batcher.skip_steady_steps(num_steps, TOKEN)
    for each in running:
        if len(each.token_ids) >= each.max_num_tokens:
            batcher.finish(each.seq_id)
    return num_steps


def facts(batcher: Batcher) -> list[object]:
    """All that decides what comes next, but for which block has which number."""
    pool, budget = batcher._pool, batcher._budget
    assert isinstance(pool, BlockPool)
    pool.check_integrity()
    kept = {seq_id: (len(table.block_ids), table.hashes) for seq_id, table in pool._tables.items()}
    cached = [pool._hash_of[block_id] for block_id in pool._cached]
    sequences = [
        (each.seq_id, each.status, each.token_ids, each.num_computed, each.num_room, each.num_reached)
        for each in batcher._order._sequences.values()
    ]
    waiting = [each.seq_id for each in batcher._order.waiting]
    return [
        sequences,
        waiting,
        kept,
        cached,
        pool.num_free,
        budget._tokens,
        batcher.preemptions,
        batcher._share._decodes_sat_out,
    ]


@given(
    st.lists(st.tuples(st.integers(0, 40), newcomers), min_size=1, max_size=10),
    st.sampled_from(["auto", "swap", "recompute", "off"]),
    st.integers(13, 40),
)
def test_what_is_skipped_is_what_would_have_been_stepped(
    arrivals: list[tuple[int, Newcomer]], preemption: Preemption, num_blocks: int
) -> None:
    stepped, skipped = playing(preemption, num_blocks), playing(preemption, num_blocks)
    for number, (gap, newcomer) in enumerate([*arrivals, (MANY, (0, 1, 1))]):
        left = gap
        while left and len(skipped):
            num_steps = skip_or_step(skipped, left)
            for _ in range(num_steps):
                run_step(stepped)
            left -= num_steps
            assert facts(skipped) == facts(stepped)
        for batcher in (stepped, skipped):
            add(batcher, number, newcomer)


def decoding(batcher: Batcher, num_steps: int = 2) -> Batcher:
    for _ in range(num_steps):
        run_step(batcher)
    return batcher


def test_all_steps_are_steady_while_everybody_decodes_and_blocks_last() -> None:
    batcher = decoding(make_batcher(make_sequence("a", max_num_tokens=200), make_sequence("b", max_num_tokens=200)))
    assert batcher.num_steady_steps(100) == 100


def test_steps_are_steady_only_as_long_as_there_are_blocks() -> None:
    one = make_sequence("a", num_tokens=4, max_num_tokens=40)
    other = make_sequence("b", num_tokens=4, max_num_tokens=40)
    batcher = decoding(make_batcher(one, other, num_blocks=10), 1)
    # Each has five blocks in the end, for twenty tokens; the twentieth needs no place before it is computed.
    assert batcher.num_steady_steps(30) == 16


def test_no_step_is_steady_while_a_prompt_is_computed() -> None:
    batcher = decoding(make_batcher(make_sequence("a", num_tokens=100, max_num_tokens=200)), 1)
    assert batcher.num_steady_steps(10) == 0


def test_no_step_is_steady_after_somebody_came_until_it_was_seen_that_there_is_no_room() -> None:
    batcher = decoding(make_batcher(make_sequence("a", max_num_tokens=200), max_num_seqs=1))
    batcher.add(make_sequence("b", arrival_s=1))
    assert batcher.num_steady_steps(10) == 0
    run_step(batcher)
    assert batcher.num_steady_steps(10) == 10


def test_no_step_is_steady_while_somebody_waits_to_whom_another_would_give_way_later() -> None:
    batcher = decoding(make_batcher(make_sequence("a", max_num_tokens=60), num_blocks=16, max_num_seqs=1))
    batcher._budget.spend(5_000)  # so that it cannot be afforded yet
    batcher.add(make_sequence("b", priority=20))
    run_step(batcher)
    assert batcher.num_running == 1
    assert batcher.num_steady_steps(10) == 0


def test_a_skip_frees_the_slots_that_the_last_plan_has_read() -> None:
    batcher = decoding(make_batcher(make_sequence("a", max_num_tokens=60), num_swap_slots=2))
    swap = batcher._pool.swap
    copies = BlockCopies(outward=swap.put("gone", [0, 1]))
    swap.take("gone", [block_id for block_id, _ in copies.outward])
    assert swap.num_free == 0
    batcher.skip_steady_steps(1, TOKEN)
    assert swap.num_free == 2
