"""Fills a decode-only step up to a bucket with rows that belong to nobody. Knows nothing of tensors or graphs."""

from __future__ import annotations

import numpy as np

from engine.step import IntArray, Step


def is_decode_only(step: Step) -> bool:
    """Whether every chunk is one token, and the logits of each are wanted."""
    return len(step.token_ids) == len(step.starts) == len(step.rows)


def pad(step: Step, num_rows: int, scratch_block: int) -> Step:
    """The step with as many rows: each new one is token 0 at position 0 of the scratch block, and sees only itself."""
    num_new = num_rows - len(step.token_ids)
    zeros, ones = np.zeros(num_new, np.int32), np.ones(num_new, np.int32)
    return Step(
        token_ids=np.concatenate([step.token_ids, zeros]),
        starts=np.concatenate([step.starts, zeros]),
        lengths=np.concatenate([step.lengths, ones]),
        tables=[*step.tables, *[np.array([scratch_block], np.int32)] * num_new],
        rows=np.arange(num_rows, dtype=np.int32),
    )


def only_padding(num_rows: int, scratch_block: int) -> Step:
    """A step that computes nothing for anybody."""
    none: IntArray = np.empty(0, np.int32)
    return pad(Step(token_ids=none, starts=none, lengths=none, tables=[], rows=none), num_rows, scratch_block)
