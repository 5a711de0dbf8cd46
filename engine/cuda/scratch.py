"""Owns the one block of the KV cache that belongs to no sequence: padding writes there. Knows nothing of graphs."""

from __future__ import annotations

import torch

from engine.kv_cache import KVCache, LayerShape


class CacheWithScratch(KVCache):
    """A cache of one block more than `num_blocks` tells, so that no pool ever hands it out."""

    def __init__(
        self, shapes: list[LayerShape], num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(shapes, num_blocks + 1, block_size, dtype, device)
        self.num_blocks = num_blocks

    @property
    def scratch_block(self) -> int:
        return self.num_blocks
