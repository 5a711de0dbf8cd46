"""Owns a step as plain arrays: positions, slots, block tables, lengths. Knows nothing of devices or attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.step import IntArray, Step

Int64Array: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FlatStep:
    """What the layers need to know of a step.

    token_ids, positions: [1, num_tokens]. slots: [num_tokens], where each token's keys and values go. rows: the tokens
    whose logits are wanted. opened_blocks: those that a sequence starts to use. cumulative_queries, cumulative_keys:
    [num_chunks + 1], running sums from 0. num_keys: [num_chunks], the context with the new tokens.
    block_table: [num_chunks, width].
    """

    token_ids: Int64Array
    positions: Int64Array
    slots: Int64Array
    rows: Int64Array
    opened_blocks: Int64Array
    cumulative_queries: IntArray
    cumulative_keys: IntArray
    num_keys: IntArray
    block_table: IntArray


def flat_step(step: Step, block_size: int, table_width: int | None = None) -> FlatStep:
    """table_width: blocks of a row of the block table; None takes the longest row's."""
    positions = _positions(step)
    table = padded(step.tables, table_width)
    blocks = table[np.repeat(np.arange(len(step.starts)), step.lengths), positions // block_size]
    offsets = positions % block_size
    num_keys = step.starts + step.lengths
    return FlatStep(
        token_ids=step.token_ids.astype(np.int64)[None],
        positions=positions[None],
        slots=blocks * block_size + offsets,
        rows=step.rows.astype(np.int64),
        opened_blocks=np.setdiff1d(blocks[offsets == 0], blocks[offsets == block_size - 1]),
        cumulative_queries=_running_sums(step.lengths),
        cumulative_keys=_running_sums(num_keys),
        num_keys=num_keys,
        block_table=table.astype(np.int32),
    )


def padded(tables: list[IntArray], width: int | None = None) -> Int64Array:
    """[num_tables, width or the longest], filled up with each table's own first block, so that no row reads another's
    blocks."""
    lengths = np.array([len(table) for table in tables])
    filled = np.repeat(np.array([[table[0]] for table in tables], np.int64), width or lengths.max(), axis=1)
    filled[np.arange(filled.shape[1]) < lengths[:, None]] = np.concatenate(tables)
    return filled


def _positions(step: Step) -> Int64Array:
    offsets = np.cumsum(step.lengths) - step.lengths
    positions: Int64Array = np.arange(len(step.token_ids)) + np.repeat(step.starts - offsets, step.lengths)
    return positions


def _running_sums(lengths: IntArray) -> IntArray:
    sums = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=sums[1:])
    return sums
