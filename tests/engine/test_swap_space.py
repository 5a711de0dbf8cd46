"""Blocks that went to the swap area come back as they were, in either cache."""

from __future__ import annotations

import pytest
import torch

from engine.fused.cache import PackedKVCache
from engine.kv_cache import KVCache, LayerShape
from engine.swap_space import SwapSpace, _copy_over_the_bus, _runs
from scheduling.swap_area import BlockCopies

CPU = torch.device("cpu")
SHAPES = [LayerShape(3, 8, 8), LayerShape(1, 16, 8)]
CACHES = [
    pytest.param(KVCache(SHAPES, 6, 4, torch.float32, CPU), id="plain"),
    pytest.param(PackedKVCache(SHAPES, 6, 4, torch.bfloat16), id="packed"),
]


@pytest.fixture(params=CACHES)
def cache(request: pytest.FixtureRequest) -> KVCache | PackedKVCache:
    """Filled with numbers of which no two blocks share one."""
    found: KVCache | PackedKVCache = request.param
    for index, tensor in enumerate(found.block_tensors()):
        tensor.copy_((torch.arange(6) + 10 * index).view(-1, *[1] * (tensor.ndim - 1)).expand_as(tensor))
    return found


def blocks(cache: KVCache | PackedKVCache, first: int) -> list[list[float]]:
    """What each block holds in each tensor, less what the tensor's own number adds, from block `first` on."""
    found = []
    for index, tensor in enumerate(cache.block_tensors()):
        flat = tensor[first:].flatten(1).float() - 10 * index
        assert (flat == flat[:, :1]).all(), "a block is of one piece"
        found.append(flat[:, 0].tolist())
    return found


def test_a_block_comes_back_to_another_place_from_the_slot_that_it_went_to(cache: KVCache | PackedKVCache) -> None:
    swap = SwapSpace(cache, num_slots=3)
    swap.copy(BlockCopies(outward=[(1, 2), (2, 0)]))
    for tensor in cache.block_tensors():
        tensor[1:3] = -1  # somebody else's by now
    swap.copy(BlockCopies(inward=[(2, 4), (0, 5)]))
    assert all(block == [1, 2] for block in blocks(cache, first=4))


def test_what_goes_out_is_read_before_what_comes_in_is_written(cache: KVCache | PackedKVCache) -> None:
    swap = SwapSpace(cache, num_slots=2)
    swap.copy(BlockCopies(outward=[(0, 0)]))
    swap.copy(BlockCopies(outward=[(3, 1)], inward=[(0, 3)]))
    swap.copy(BlockCopies(inward=[(1, 0)]))
    assert all(block == [3, 1, 2, 0, 4, 5] for block in blocks(cache, first=0))


def test_the_area_is_as_large_as_so_many_blocks(cache: KVCache | PackedKVCache) -> None:
    assert SwapSpace(cache, num_slots=3).num_bytes == 3 * cache.num_bytes // cache.num_blocks
    SwapSpace(cache, num_slots=0).copy(BlockCopies())


def test_over_the_bus_neighbours_at_both_ends_travel_together() -> None:
    assert _runs([3, 4, 5, 9, 10], [0, 1, 2, 3, 5]) == [(0, 3), (3, 4), (4, 5)]
    source, target = torch.arange(12).view(6, 2), torch.zeros(6, 2, dtype=torch.int64)
    _copy_over_the_bus(source, [3, 4, 0], target, [0, 1, 5])
    assert target[:, 0].tolist() == [6, 8, 0, 0, 0, 0]
    assert target[5].tolist() == [0, 1]
