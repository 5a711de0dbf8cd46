"""Owns the tensors of the paged KV cache on one rank and how many blocks fit. Knows nothing of who uses which block."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.config import EngineConfig

#: On CPU all replicas of a machine share its memory, so each rank takes at most this unless told otherwise.
MAX_CPU_CACHE_BYTES = 2 << 30
CPU_SHARE_OF_FREE = 0.25
CUDA_SHARE_OF_FREE = 0.9


class InsufficientMemory(Exception):
    """Weights or KV cache do not fit; the message holds the arithmetic. For the operator, at start-up."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One attention layer's cache on this rank: heads may differ between ranks, sizes between layers."""

    num_kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def elements_per_token(self) -> int:
        return self.num_kv_heads * (self.key_dim + self.value_dim)


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
    """The cache of every layer of one rank. Layers of one shape share one tensor, so that clearing is one operation."""

    def __init__(
        self, shapes: list[LayerShape], num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        tensor_shapes = [(shape.num_kv_heads, dim) for shape in shapes for dim in (shape.key_dim, shape.value_dim)]
        self._tensors = {
            shape: _zeros((count, num_blocks, block_size, *shape), dtype, device)
            for shape, count in Counter(tensor_shapes).items()
        }
        unused = {shape: list(tensor) for shape, tensor in reversed(self._tensors.items())}
        tensors = [unused[shape].pop(0) for shape in tensor_shapes]
        self.layers = [LayerCache(keys, values) for keys, values in zip(tensors[::2], tensors[1::2], strict=True)]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def clear(self, blocks: torch.Tensor) -> None:
        """Zeroes blocks that a sequence starts to use: the unused tail of a block is read, though with no weight, and
        a NaN that an earlier owner left there would spoil the answer."""
        if blocks.numel():
            for tensor in self._tensors.values():
                tensor.index_fill_(1, blocks, 0)


def bytes_per_block(shapes: list[LayerShape], block_size: int, dtype: torch.dtype) -> int:
    return sum(shape.elements_per_token for shape in shapes) * block_size * dtype.itemsize


def wanted_blocks(config: EngineConfig, max_model_len: int) -> int:
    """Blocks for `kv_cache_tokens`, or for every sequence that the engine can hold at its longest."""
    num_sequences = config.max_num_seqs + config.parked_limit
    num_tokens = config.kv_cache_tokens or num_sequences * max_model_len
    return -(-num_tokens // config.block_size)


def fitting_blocks(config: EngineConfig, block_bytes: int, max_model_len: int, device: torch.device) -> int:
    """How many blocks this rank can hold: what is wanted, within the share of free memory that the cache may take.

    `kv_cache_tokens` lifts the cap of 2 GiB on CPU, never that of free memory.

    Raises:
        InsufficientMemory: not even one sequence fits (`max_model_len` tokens, or all of `kv_cache_tokens`).
    """
    wanted = wanted_blocks(config, max_model_len)
    budget = cache_budget(config, device)
    fitting = min(wanted, budget // block_bytes)
    needed = wanted if config.kv_cache_tokens else -(-max_model_len // config.block_size)
    if fitting < needed:
        raise InsufficientMemory(
            f"KV cache: {needed} blocks x {block_bytes:,} bytes = {needed * block_bytes:,} bytes a rank needed for "
            f"{needed * config.block_size} tokens, {budget:,} bytes available: lower max_model_len or kv_cache_tokens"
        )
    return fitting


def cache_budget(config: EngineConfig, device: torch.device) -> int:
    """Bytes that the cache of one rank may take now."""
    free = free_bytes(device)
    if device.type == "cuda":
        return int(free * CUDA_SHARE_OF_FREE)
    if config.kv_cache_tokens:
        return free // config.tensor_parallel_size
    return min(int(free * CPU_SHARE_OF_FREE) // config.tensor_parallel_size, MAX_CPU_CACHE_BYTES)


def free_bytes(device: torch.device) -> int:
    """Free memory of the device; on CPU what the machine and its container leave."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_available_bytes(), _container_bytes())


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_bytes(root: Path = Path("/sys/fs/cgroup")) -> int:
    """What the cgroup (version 2) still allows; a very large number where there is no limit."""
    try:
        limit, used = (root / "memory.max").read_text().strip(), (root / "memory.current").read_text()
    except OSError:
        return 1 << 62
    return 1 << 62 if limit == "max" else max(0, int(limit) - int(used))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros that cost memory only once touched: on CPU numpy asks the system for zero pages, torch would write them."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(np.zeros(num_bytes, np.uint8)).view(dtype).view(shape)
