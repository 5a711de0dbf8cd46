"""Owns the memory of the KV cache as the native program lays it out. Knows nothing of who uses which block."""

from __future__ import annotations

import torch

from engine.fused.pages import fresh_pages, tensor_over
from engine.kv_cache import LayerShape


class PackedKVCache:
    """layers: for each [num_blocks, elements of a block]; see `native/attention.h` for what lies where in a block.

    Blocks begin at the start of a page. All of the memory is taken at once, see `KVCache`.
    """

    def __init__(self, shapes: list[LayerShape], num_blocks: int, block_size: int, dtype: torch.dtype) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.layers = [_blocks(num_blocks, shape.elements_per_token * block_size, dtype) for shape in shapes]

    @property
    def num_bytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def block_tensors(self) -> list[torch.Tensor]:
        """All that is kept, as tensors [num_blocks, ...]: a block is the same row of each."""
        return self.layers


def _blocks(num_blocks: int, num_elements: int, dtype: torch.dtype) -> torch.Tensor:
    pages = fresh_pages(num_blocks * num_elements * dtype.itemsize)
    return tensor_over(pages, (num_blocks, num_elements), dtype).zero_()
