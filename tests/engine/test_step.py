"""Tests how chunks become a step, and that a step survives its wire form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.step import Step, arrange, decode_words, encode_copies
from scheduling.swap_area import BlockCopies
from tests.engine.chunks import make_chunk

BLOCK_SIZE = 16


@st.composite
def steps(draw: st.DrawFn) -> Step:
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    words = st.integers(0, 2**31 - 1)
    tables = [draw(st.lists(words, min_size=1, max_size=5)) for _ in lengths]
    return Step(
        token_ids=np.array(draw(st.lists(words, min_size=sum(lengths), max_size=sum(lengths))), np.int32),
        starts=np.array(draw(st.lists(words, min_size=len(lengths), max_size=len(lengths))), np.int32),
        lengths=np.array(lengths, np.int32),
        tables=[np.array(table, np.int32) for table in tables],
        rows=np.array(draw(st.lists(st.integers(0, sum(lengths) - 1), max_size=6)), np.int32),
    )


@given(steps())
def test_a_step_is_the_same_after_its_wire_form(step: Step) -> None:
    decoded = Step.decode(step.encode())
    for name in ("token_ids", "starts", "lengths", "rows"):
        np.testing.assert_array_equal(getattr(decoded, name), getattr(step, name))
    assert [table.tolist() for table in decoded.tables] == [table.tolist() for table in step.tables]


def test_decodes_come_first_shortest_context_first() -> None:
    chunks = [make_chunk("p", start=0, length=5), make_chunk("long", start=90), make_chunk("short", start=3)]
    step = arrange(chunks, BLOCK_SIZE).step
    assert step.starts.tolist() == [3, 90, 0]
    assert step.num_singles == 2


def test_each_chunk_finds_the_row_of_its_own_last_token() -> None:
    chunks = [make_chunk("p", start=0, length=5), make_chunk("d", start=7)]
    arrangement = arrange(chunks, BLOCK_SIZE)
    assert arrangement.step.rows.tolist() == [0, 5]
    assert [(place.chunk.seq_id, place.first_row) for place in arrangement.scheduled] == [("p", 1), ("d", 0)]


def test_a_chunk_inside_a_prefill_wants_no_logits() -> None:
    step = arrange([make_chunk("p", start=0, length=5, samples=False)], BLOCK_SIZE).step
    assert step.rows.tolist() == []


def test_a_chunk_that_reports_its_prompt_wants_every_token_that_a_prompt_token_follows() -> None:
    chunk = make_chunk("p", start=2, length=4, prompt_logprobs=1, num_prompt_tokens=5)
    arrangement = arrange([chunk], BLOCK_SIZE)
    assert arrangement.step.rows.tolist() == [0, 1, 3]  # positions 2 and 3 tell of 3 and 4; position 5 chooses the next
    assert arrangement.scheduled[0].num_prompt_rows == 2


def test_blocks_that_are_reserved_for_later_do_not_travel() -> None:
    chunk = make_chunk("p", start=0, length=17, block_table=[5, 6, 7, 8])
    assert arrange([chunk], BLOCK_SIZE).step.tables[0].tolist() == [5, 6]


def test_too_short_a_block_table_is_an_error_that_names_the_sequence() -> None:
    with pytest.raises(ValueError, match="p: block_table: expected 2 blocks, got 1"):
        arrange([make_chunk("p", start=16, block_table=[5])], BLOCK_SIZE)


pairs = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), max_size=5)


@given(pairs, pairs)
def test_copies_survive_the_wire_and_are_told_from_a_step(
    outward: list[tuple[int, int]], inward: list[tuple[int, int]]
) -> None:
    copies = BlockCopies(outward, inward)
    assert decode_words(encode_copies(copies)) == copies
    step = arrange([make_chunk()], BLOCK_SIZE).step
    assert isinstance(decode_words(step.encode()), Step)
