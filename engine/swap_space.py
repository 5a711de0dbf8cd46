"""Owns the host memory that parked sequences' blocks are copied to, on one rank. Knows nothing of who is parked.

On CPU it is another region beside the cache: what is saved is the recompute. On CUDA it is pinned, so that copies run
at the speed of the bus and need no thread.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from engine.fused.cache import PackedKVCache
from engine.kv_cache import KVCache
from scheduling.swap_area import BlockCopies

#: A cache's memory by block, on CPU: [num_blocks, bytes of a block].
_Rows: TypeAlias = npt.NDArray[np.uint8]


class SwapSpace:
    """A slot for each of `num_slots` blocks, in each of the cache's tensors. All of the memory is taken at once."""

    def __init__(self, cache: KVCache | PackedKVCache, num_slots: int) -> None:
        self._cached = cache.block_tensors()
        self._device = self._cached[0].device
        self._stored = [_host_tensor((num_slots, *each.shape[1:]), each) for each in self._cached]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._stored)

    @torch.inference_mode()
    def copy(self, copies: BlockCopies) -> None:
        """Copies blocks out, then slots in. Returns when all have been copied: on CUDA they are queued behind one
        another without waiting, and waited for once."""
        _copy_all(self._cached, self._stored, copies.outward)
        _copy_all(self._stored, self._cached, copies.inward)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()


def _copy_all(sources: list[torch.Tensor], targets: list[torch.Tensor], pairs: list[tuple[int, int]]) -> None:
    if not pairs:
        return
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    for source, target in zip(sources, targets, strict=True):
        if source.device == target.device:
            _rows(target)[second] = _rows(source)[first]  # by numpy: torch would set a team of threads to it, and wait
        else:
            _copy_over_the_bus(source, first, target, second)


def _copy_over_the_bus(source: torch.Tensor, first: list[int], target: torch.Tensor, second: list[int]) -> None:
    for start, end in _runs(first, second):
        length = end - start
        target.narrow(0, second[start], length).copy_(source.narrow(0, first[start], length), non_blocking=True)


def _runs(first: list[int], second: list[int]) -> list[tuple[int, int]]:
    """Where (start, end) neighbours lie next to each other at both ends: one copy moves all of them."""
    steps = zip(first, second, first[1:], second[1:], strict=False)
    breaks = [index for index, (a, b, c, d) in enumerate(steps, 1) if (c, d) != (a + 1, b + 1)]
    return list(zip([0, *breaks], [*breaks, len(first)], strict=True))


def _rows(tensor: torch.Tensor) -> _Rows:
    flat = tensor.view(len(tensor), math.prod(tensor.shape[1:])).view(torch.uint8)
    rows: _Rows = flat.numpy()
    return rows


def _host_tensor(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    if like.device.type == "cuda":
        return torch.empty(shape, dtype=like.dtype, pin_memory=True)
    return torch.zeros(shape, dtype=like.dtype)
