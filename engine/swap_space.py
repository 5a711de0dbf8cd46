"""Owns the host memory that parked sequences' blocks are copied to, on one rank. Knows nothing of who is parked.

On CPU it is another region beside the cache: what is saved is the recompute. On CUDA it is pinned, so that copies run
at the speed of the bus and need no thread.
"""

from __future__ import annotations

import torch

from engine.fused.cache import PackedKVCache
from engine.kv_cache import KVCache, zeros
from scheduling.swap_area import BlockCopies


class SwapSpace:
    """A slot for each of `num_slots` blocks, in each of the cache's tensors. Memory is taken only as it is touched on
    CPU, and at once on CUDA."""

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
        out_from, out_to = _columns(copies.outward)
        in_from, in_to = _columns(copies.inward)
        for cached, stored in zip(self._cached, self._stored, strict=True):
            _copy(cached, out_from, stored, out_to)
        for cached, stored in zip(self._cached, self._stored, strict=True):
            _copy(stored, in_from, cached, in_to)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()


def _copy(source: torch.Tensor, sources: list[int], target: torch.Tensor, targets: list[int]) -> None:
    if not sources:
        return
    if source.device == target.device:
        target.index_copy_(0, torch.tensor(targets), source.index_select(0, torch.tensor(sources)))
        return
    for first, last in _runs(sources, targets):
        length = last - first
        target.narrow(0, targets[first], length).copy_(source.narrow(0, sources[first], length), non_blocking=True)


def _runs(sources: list[int], targets: list[int]) -> list[tuple[int, int]]:
    """Where (first, last) neighbours lie next to each other at both ends: one copy moves all of them."""
    breaks = [
        index
        for index in range(1, len(sources))
        if sources[index] != sources[index - 1] + 1 or targets[index] != targets[index - 1] + 1
    ]
    return list(zip([0, *breaks], [*breaks, len(sources)], strict=True))


def _columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _host_tensor(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    if like.device.type == "cuda":
        return torch.empty(shape, dtype=like.dtype, pin_memory=True)
    return zeros(shape, like.dtype, torch.device("cpu")) if shape[0] else like.new_empty(shape)
