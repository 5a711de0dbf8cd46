"""Tests the tensors that every layer of a step reads."""

from __future__ import annotations

import torch

from engine.paged_batch import PagedBatch
from engine.step import arrange
from tests.engine.chunks import make_chunk
from tests.engine.playing import BLOCK_SIZE, CPU


def make_batch(*places: tuple[int, int], block_table: list[int] | None = None) -> PagedBatch:
    chunks = [make_chunk(str(i), start=s, length=n, block_table=block_table) for i, (s, n) in enumerate(places)]
    return PagedBatch(arrange(chunks, BLOCK_SIZE).step, BLOCK_SIZE, torch.float32, CPU)


def test_positions_go_on_where_each_chunk_starts() -> None:
    assert make_batch((7, 1), (30, 3)).positions.tolist() == [[7, 30, 31, 32]]


def test_slots_follow_the_block_table() -> None:
    assert make_batch((15, 3), block_table=[4, 9]).slots.tolist() == [4 * 16 + 15, 9 * 16, 9 * 16 + 1]


def test_only_blocks_that_stay_partly_empty_are_cleared() -> None:
    assert make_batch((10, 30), block_table=[5, 6, 7]).opened_blocks.tolist() == [7]
    assert make_batch((16, 1), block_table=[5, 6]).opened_blocks.tolist() == [6]
    assert make_batch((17, 1), block_table=[5, 6]).opened_blocks.tolist() == []


def test_a_long_context_is_not_batched_with_short_ones() -> None:
    groups = make_batch((10, 1), (5000, 1), (100, 1), (4500, 1)).plan(None).decodes
    assert [(group.rows.start, group.rows.stop) for group in groups] == [(0, 2), (2, 4)]


def test_a_group_holds_contexts_that_differ_at_most_by_half() -> None:
    batch = make_batch(*[(length, 1) for length in range(1, 4000, 37)])
    for group in batch.plan(None).decodes:
        visible = group.mask.eq(0).sum(-1).flatten()
        assert group.mask.shape[-1] <= max(2 * int(visible.min()) + BLOCK_SIZE, 8 * BLOCK_SIZE)


def test_a_window_reads_no_block_before_it() -> None:
    group = make_batch((1000, 1)).plan(20).decodes[0]
    assert group.blocks.tolist() == [61, 62]
    assert int(group.mask.eq(0).sum()) == 20


def test_contexts_beyond_a_window_go_together_wherever_in_a_block_they_end() -> None:
    batch = make_batch(*[(5000 + length, 1) for length in range(40)])  # 256 blocks where a block ends, else 257
    assert len(batch.plan(4096).decodes) == 1


def test_a_row_is_filled_up_with_its_own_blocks() -> None:
    chunks = [make_chunk("a", start=3, block_table=[8]), make_chunk("b", start=40, block_table=[1, 2, 3])]
    batch = PagedBatch(arrange(chunks, BLOCK_SIZE).step, BLOCK_SIZE, torch.float32, CPU)
    assert batch.plan(None).decodes[0].blocks.tolist() == [8, 8, 8, 1, 2, 3]


def test_a_plan_is_made_once_for_each_window() -> None:
    batch = make_batch((50, 1))
    assert batch.plan(None) is batch.plan(None)
    assert batch.plan(20) is not batch.plan(None)


def test_a_first_chunk_needs_neither_blocks_nor_mask() -> None:
    chunk = make_batch((0, 20)).plan(None).prefills[0]
    assert chunk.blocks is None
    assert chunk.mask is None
