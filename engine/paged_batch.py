"""Owns a step as tensors: positions, slots, block tables and masks, built once a step and read by every layer.

Knows nothing of models or of attention arithmetic.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from engine.flat_step import Int64Array, flat_step, padded
from engine.packed_arrays import upload
from engine.step import Step

#: Decodes are batched with others of at most twice their blocks; below this many blocks all go together.
_SMALL_GROUP_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Sequences with one new token each and contexts of similar length.

    rows: their tokens in the step. blocks: [num_rows * num_blocks], filled up with a row's own first block.
    mask: [num_rows, 1, 1, num_blocks * block_size], 0 where the row may look and -inf elsewhere.
    """

    rows: slice
    blocks: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Several new tokens of one sequence. mask: [num_tokens, context_length - skipped], None where it is plain causal.

    blocks: the context's blocks from the first that is looked at; None when the step itself brings all of it.
    """

    rows: slice
    context_length: int
    blocks: torch.Tensor | None
    mask: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    decodes: list[DecodeGroup]
    prefills: list[PrefillChunk]


@dataclass(frozen=True, slots=True)
class SequenceTensors:
    """A step by sequence, int32, as `FlatStep` has it."""

    cumulative_queries: torch.Tensor
    cumulative_keys: torch.Tensor
    num_keys: torch.Tensor
    block_table: torch.Tensor


@dataclass(slots=True)
class PagedBatch:
    """A step on this rank's device. Plans are made per sliding window, when the first such layer asks.

    The tensors are those of `FlatStep`, brought over in one copy.
    """

    step: Step
    block_size: int
    dtype: torch.dtype
    device: torch.device
    token_ids: torch.Tensor = field(init=False)
    positions: torch.Tensor = field(init=False)
    slots: torch.Tensor = field(init=False)
    rows: torch.Tensor = field(init=False)
    opened_blocks: torch.Tensor = field(init=False)
    sequences: SequenceTensors = field(init=False)
    _plans: dict[int | None, AttentionPlan] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        arrays = flat_step(self.step, self.block_size)
        tokens = [arrays.token_ids, arrays.positions, arrays.slots, arrays.rows, arrays.opened_blocks]
        sequences = [arrays.cumulative_queries, arrays.cumulative_keys, arrays.num_keys, arrays.block_table]
        tensors = upload([*tokens, *sequences], self.device)
        self.token_ids, self.positions, self.slots, self.rows, self.opened_blocks = tensors[: len(tokens)]
        self.sequences = SequenceTensors(*tensors[len(tokens) :])

    def plan(self, window: int | None) -> AttentionPlan:
        """How a layer with this sliding window (None: it sees everything) reads the cache."""
        if window not in self._plans:
            num_singles = self.step.num_singles
            self._plans[window] = AttentionPlan(
                decodes=self._decode_groups(num_singles, window),
                prefills=[self._prefill(i, window) for i in range(num_singles, len(self.step.starts))],
            )
        return self._plans[window]

    def _decode_groups(self, num_singles: int, window: int | None) -> list[DecodeGroup]:
        if num_singles == 0:
            return []
        contexts = self.step.starts[:num_singles].astype(np.int64) + 1
        first_blocks = _first_block(contexts, window, self.block_size)
        num_blocks = -(-contexts // self.block_size) - first_blocks
        buckets = np.ceil(np.log2(np.maximum(num_blocks, _SMALL_GROUP_BLOCKS))).astype(np.int64)
        buckets = np.maximum.accumulate(buckets)  # beyond a window a block more or less would part neighbours
        edges = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), num_singles]
        return [
            self._decode_group(slice(begin, end), contexts[begin:end], first_blocks[begin:end], window)
            for begin, end in itertools.pairwise(edges)
        ]

    def _decode_group(
        self, rows: slice, contexts: Int64Array, first_blocks: Int64Array, window: int | None
    ) -> DecodeGroup:
        tables = [table[first:] for table, first in zip(self.step.tables[rows], first_blocks, strict=True)]
        blocks = padded(tables)
        keys = first_blocks[:, None] * self.block_size + np.arange(blocks.shape[1] * self.block_size)
        visible = keys < contexts[:, None]
        if window is not None:
            visible &= keys >= contexts[:, None] - window
        return DecodeGroup(rows=rows, blocks=self._tensor(blocks.ravel()), mask=self._mask(visible)[:, None, None, :])

    def _prefill(self, index: int, window: int | None) -> PrefillChunk:
        end = int(self.step.lengths[: index + 1].sum())
        start, length = int(self.step.starts[index]), int(self.step.lengths[index])
        rows, context = slice(end - length, end), start + length
        if start == 0 and (window is None or context <= window):
            return PrefillChunk(rows=rows, context_length=context, blocks=None, mask=None)
        first = int(_first_block(np.array([start + 1]), window, self.block_size)[0])
        queries, keys = np.arange(start, context)[:, None], np.arange(first * self.block_size, context)
        visible = keys <= queries
        if window is not None:
            visible &= keys > queries - window
        blocks = self._tensor(self.step.tables[index][first:].astype(np.int64))
        return PrefillChunk(rows=rows, context_length=len(keys), blocks=blocks, mask=self._mask(visible))

    def _mask(self, visible: npt.NDArray[np.bool_]) -> torch.Tensor:
        mask = torch.zeros(visible.shape, dtype=self.dtype).masked_fill_(torch.from_numpy(~visible), float("-inf"))
        return mask.to(self.device, non_blocking=True)

    def _tensor(self, array: Int64Array) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)


def _first_block(contexts: Int64Array, window: int | None, block_size: int) -> Int64Array:
    """The first block that the last token of a context sees."""
    hidden = contexts - (contexts if window is None else window)
    first: Int64Array = np.maximum(hidden, 0) // block_size
    return first
