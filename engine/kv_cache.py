"""Owns the tensors of the paged KV cache on one rank. Knows nothing of who uses which block, or of what fits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One attention layer's cache on this rank: heads may differ between ranks, sizes between layers."""

    num_kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def elements_per_token(self) -> int:
        return self.num_kv_heads * (self.key_dim + self.value_dim)


def bytes_per_block(shapes: list[LayerShape], block_size: int, dtype: torch.dtype) -> int:
    """Bytes of one block in all layers of this rank."""
    return sum(shape.elements_per_token for shape in shapes) * block_size * dtype.itemsize


@dataclass(frozen=True, slots=True)
class LayerCache:
    """keys, values: [num_blocks, block_size, num_kv_heads, head_dim]."""

    keys: torch.Tensor
    values: torch.Tensor

    def write(self, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Puts [num_tokens, num_kv_heads, head_dim] into slots (block * block_size + offset), [num_tokens]."""
        self.keys.flatten(0, 1).index_copy_(0, slots, keys)
        self.values.flatten(0, 1).index_copy_(0, slots, values)


class KVCache:
    """The cache of every layer of one rank. Layers of one shape share one tensor, so that clearing is one operation.

    All of its memory is taken at once: what the machine does not have is missed at the start, not under load.
    """

    def __init__(
        self, shapes: list[LayerShape], num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.shapes = shapes
        self.num_blocks = num_blocks
        self.block_size = block_size
        tensor_shapes = [(shape.num_kv_heads, dim) for shape in shapes for dim in (shape.key_dim, shape.value_dim)]
        self._tensors = {
            shape: torch.zeros((count, num_blocks, block_size, *shape), dtype=dtype, device=device)
            for shape, count in Counter(tensor_shapes).items()
        }
        unused = {shape: list(tensor) for shape, tensor in reversed(self._tensors.items())}
        tensors = [unused[shape].pop(0) for shape in tensor_shapes]
        self.layers = [LayerCache(keys, values) for keys, values in zip(tensors[::2], tensors[1::2], strict=True)]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def block_tensors(self) -> list[torch.Tensor]:
        """All that is kept, as tensors [num_blocks, ...]: a block is the same row of each."""
        return [tensor for layer in self.layers for tensor in (layer.keys, layer.values)]

    def clear(self, blocks: torch.Tensor) -> None:
        """Zeroes blocks that a sequence starts to use: the unused tail of a block is read, though with no weight, and
        a NaN that an earlier owner left there would spoil the answer."""
        if blocks.numel():
            for tensor in self._tensors.values():
                tensor.index_fill_(1, blocks, 0)
