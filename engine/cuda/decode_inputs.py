"""Owns the tensors that captured decodes read: always the same memory, filled in one copy a step. Knows no graphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from engine.cuda.padding import only_padding, pad
from engine.flat_step import FlatStep, Int64Array, flat_step
from engine.packed_arrays import IntegerArray, num_words, pack, views
from engine.paged_batch import SequenceTensors
from engine.step import Step


@dataclass(frozen=True, slots=True)
class CacheGeometry:
    """table_width: blocks of the longest sequence. scratch_block: where padding writes."""

    block_size: int
    table_width: int
    scratch_block: int


@dataclass(frozen=True, slots=True)
class DecodeTensors:
    """What the forward pass of one bucket reads. opened_blocks: room for one a row."""

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    rows: torch.Tensor
    opened_blocks: torch.Tensor
    sequences: SequenceTensors


class DecodeInputs:
    """One buffer on the device, in which every bucket has its own tensors: one bucket is in use at a time."""

    def __init__(self, sizes: tuple[int, ...], geometry: CacheGeometry, device: torch.device) -> None:
        self._geometry = geometry
        templates = {size: self._arrays(self._flat(only_padding(size, geometry.scratch_block)), size) for size in sizes}
        most_words = max(num_words(arrays) for arrays in templates.values())
        self._words = torch.zeros(most_words, dtype=torch.int64, device=device)
        self._tensors = {size: _named(views(self._words, arrays)) for size, arrays in templates.items()}

    def tensors(self, size: int) -> DecodeTensors:
        return self._tensors[size]

    def fill(self, step: Step, size: int) -> torch.Tensor:
        """Brings a decode-only step over, padded to `size` rows; returns the blocks that it opens."""
        flat = self._flat(pad(step, size, self._geometry.scratch_block))
        words = pack(self._arrays(flat, size), pinned=self._words.device.type == "cuda")
        self._words[: len(words)].copy_(words, non_blocking=True)
        return self._tensors[size].opened_blocks[: len(self._opened(flat))]

    def fill_with_padding(self, size: int) -> None:
        """Rows that belong to nobody, so that a pass over them changes nothing."""
        self.fill(only_padding(0, self._geometry.scratch_block), size)

    def _flat(self, step: Step) -> FlatStep:
        return flat_step(step, self._geometry.block_size, self._geometry.table_width)

    def _opened(self, flat: FlatStep) -> Int64Array:
        """Without the scratch block, which nobody reads a token of that he did not write."""
        opened: Int64Array = flat.opened_blocks[flat.opened_blocks != self._geometry.scratch_block]
        return opened

    def _arrays(self, flat: FlatStep, size: int) -> list[IntegerArray]:
        """In the order of `_named`, of sizes that depend on the bucket alone."""
        opened = np.full(size, self._geometry.scratch_block, np.int64)
        opened[: len(self._opened(flat))] = self._opened(flat)
        tokens: list[IntegerArray] = [flat.token_ids, flat.positions, flat.slots, flat.rows, opened]
        return [*tokens, flat.cumulative_queries, flat.cumulative_keys, flat.num_keys, flat.block_table]


def _named(tensors: list[torch.Tensor]) -> DecodeTensors:
    token_ids, positions, slots, rows, opened_blocks, *sequences = tensors
    return DecodeTensors(token_ids, positions, slots, rows, opened_blocks, SequenceTensors(*sequences))
