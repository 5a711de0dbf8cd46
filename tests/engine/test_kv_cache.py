"""Tests the tensors of the paged KV cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.fused.cache import PackedKVCache
from engine.kv_cache import KVCache, LayerShape, bytes_per_block
from engine.swap_space import SwapSpace
from scheduling.swap_area import BlockCopies

CPU = torch.device("cpu")
SHAPE = LayerShape(num_kv_heads=3, key_dim=8, value_dim=8)


def make_cache(*shapes: LayerShape) -> KVCache:
    return KVCache(list(shapes), num_blocks=5, block_size=4, dtype=torch.float32, device=CPU)


def test_every_layer_has_its_own_heads_and_dimensions() -> None:
    wide = LayerShape(num_kv_heads=1, key_dim=16, value_dim=8)
    cache = make_cache(SHAPE, wide, SHAPE)
    assert [tuple(layer.keys.shape) for layer in cache.layers] == [(5, 4, 3, 8), (5, 4, 1, 16), (5, 4, 3, 8)]
    assert tuple(cache.layers[1].values.shape) == (5, 4, 1, 8)


def test_what_one_layer_writes_no_other_layer_sees() -> None:
    cache = make_cache(SHAPE, SHAPE)
    ones = torch.ones(1, 3, 8)
    cache.layers[0].write(torch.tensor([9]), ones, 2 * ones)
    assert cache.layers[0].keys[2, 1].eq(1).all()
    assert cache.layers[0].values[2, 1].eq(2).all()
    assert cache.layers[0].keys.sum() == 24
    assert cache.layers[1].keys.eq(0).all()
    assert cache.layers[1].values.eq(0).all()


def test_clearing_zeroes_the_named_blocks_of_every_layer_and_no_other() -> None:
    cache = make_cache(SHAPE, SHAPE)
    for layer in cache.layers:
        layer.keys.fill_(float("nan"))
    cache.clear(torch.tensor([1, 3]))
    assert all(layer.keys[[1, 3]].eq(0).all() for layer in cache.layers)
    assert all(layer.keys[[0, 2, 4]].isnan().all() for layer in cache.layers)


def test_the_bytes_are_those_of_the_tensors() -> None:
    assert make_cache(SHAPE, SHAPE).num_bytes == 5 * bytes_per_block([SHAPE, SHAPE], 4, torch.float32)


@pytest.mark.parametrize("kind", [partial(KVCache, device=CPU), PackedKVCache], ids=["plain", "packed"])
def test_no_more_memory_is_taken_as_blocks_are_used(kind: Callable[..., Any]) -> None:
    cache = kind([SHAPE], num_blocks=10_000, block_size=64, dtype=torch.float32)
    swap = SwapSpace(cache, num_slots=10_000)
    at_first = _resident_bytes()
    assert all(tensor.eq(0).all() for tensor in cache.block_tensors())
    for tensor in cache.block_tensors():
        tensor.fill_(1)
    swap.copy(BlockCopies(outward=[(block, block) for block in range(10_000)]))
    assert cache.num_bytes + swap.num_bytes > 1 << 27
    assert _resident_bytes() - at_first < 0.2 * (cache.num_bytes + swap.num_bytes)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
