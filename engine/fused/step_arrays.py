"""Owns a step in the native program's form: positions, slots and tables as int32. Knows nothing of models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.fused.instructions import StepArrays
from engine.step import IntArray, Step


@dataclass(frozen=True, slots=True)
class NativeStep:
    """arrays: what the structure points to; it must live as long."""

    structure: StepArrays
    arrays: dict[str, IntArray]


def native_step(step: Step, block_size: int) -> NativeStep:
    """The step with each token's position and slot (block * block_size + offset)."""
    first_rows = np.cumsum(step.lengths) - step.lengths
    positions = np.arange(len(step.token_ids)) + np.repeat(step.starts - first_rows, step.lengths)
    table_lengths = np.array([len(table) for table in step.tables])
    first_blocks = np.cumsum(table_lengths) - table_lengths
    tables = np.concatenate(step.tables)
    blocks = tables[np.repeat(first_blocks, step.lengths) + positions // block_size]
    arrays = {
        "token_ids": step.token_ids,
        "positions": positions,
        "slots": blocks * block_size + positions % block_size,
        "rows": step.rows,
        "starts": step.starts,
        "lengths": step.lengths,
        "first_rows": first_rows,
        "tables": tables,
        "first_blocks": first_blocks,
    }
    arrays = {name: np.ascontiguousarray(array, np.int32) for name, array in arrays.items()}
    structure = StepArrays(
        num_tokens=len(step.token_ids),
        num_rows=len(step.rows),
        num_chunks=len(step.lengths),
        block_size=block_size,
        **{name: array.ctypes.data for name, array in arrays.items()},
    )
    return NativeStep(structure, arrays)
