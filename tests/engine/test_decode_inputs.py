"""Tests what recorded decodes read: the step's own rows first, then rows that are nobody's."""

from __future__ import annotations

import torch

from engine.cuda.decode_inputs import CacheGeometry, DecodeInputs
from engine.cuda.padding import is_decode_only, only_padding, pad
from engine.flat_step import flat_step
from engine.step import Step, arrange
from tests.engine.chunks import make_chunk
from tests.engine.playing import BLOCK_SIZE, CPU

SCRATCH = 99
GEOMETRY = CacheGeometry(BLOCK_SIZE, table_width=4, scratch_block=SCRATCH)


def make_step() -> Step:
    """A decode inside its block, and one that opens its second."""
    chunks = [make_chunk("a", [7], start=3, block_table=[5]), make_chunk("b", [8], start=16, block_table=[6, 2])]
    return arrange(chunks, BLOCK_SIZE).step


def test_the_steps_own_rows_stand_unchanged_before_the_padding() -> None:
    own, filled = flat_step(make_step(), BLOCK_SIZE, 4), flat_step(pad(make_step(), 4, SCRATCH), BLOCK_SIZE, 4)
    for name in ("token_ids", "positions", "slots", "num_keys"):
        assert getattr(filled, name).ravel()[:2].tolist() == getattr(own, name).ravel().tolist()
    assert filled.block_table[:2].tolist() == own.block_table.tolist() == [[5, 5, 5, 5], [6, 2, 6, 6]]


def test_padding_writes_to_the_scratch_block_and_sees_one_key() -> None:
    filled = flat_step(pad(make_step(), 4, SCRATCH), BLOCK_SIZE, 4)
    assert filled.slots[2:].tolist() == [SCRATCH * BLOCK_SIZE] * 2
    assert filled.num_keys[2:].tolist() == [1, 1]
    assert filled.block_table[2:].tolist() == [[SCRATCH] * 4] * 2
    assert filled.cumulative_queries.tolist() == [0, 1, 2, 3, 4]


def test_a_bucket_keeps_its_memory_from_step_to_step() -> None:
    inputs = DecodeInputs((2, 4), GEOMETRY, CPU)
    before = inputs.tensors(4).slots.data_ptr()
    inputs.fill(make_step(), 4)
    assert inputs.tensors(4).slots.data_ptr() == before
    assert inputs.tensors(4).slots.tolist() == [5 * 16 + 3, 2 * 16, SCRATCH * 16, SCRATCH * 16]


def test_only_blocks_of_sequences_are_opened() -> None:
    inputs = DecodeInputs((2, 4), GEOMETRY, CPU)
    assert inputs.fill(make_step(), 4).tolist() == [2]
    assert inputs.fill(only_padding(0, SCRATCH), 4).tolist() == []


def test_nothing_of_an_earlier_step_is_left() -> None:
    inputs, fresh = DecodeInputs((2, 4), GEOMETRY, CPU), DecodeInputs((2, 4), GEOMETRY, CPU)
    inputs.fill(pad(make_step(), 4, 50), 4)
    for each in (inputs, fresh):
        each.fill(make_step(), 2)
    assert torch.equal(inputs.tensors(2).sequences.block_table, fresh.tensors(2).sequences.block_table)
    assert torch.equal(inputs.tensors(2).sequences.cumulative_keys, fresh.tensors(2).sequences.cumulative_keys)


def test_a_decode_is_one_token_whose_logits_are_wanted() -> None:
    assert is_decode_only(make_step())
    assert not is_decode_only(arrange([make_chunk(length=2)], BLOCK_SIZE).step)
    assert not is_decode_only(arrange([make_chunk("a"), make_chunk("b", samples=False)], BLOCK_SIZE).step)
