"""Tests attention over the paged cache against softmax(query @ keys) written out, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.architectures import UnsupportedModel
from engine.attention import PagedStep, ShapeProbe, Terms, paged_attention
from engine.kv_cache import KVCache, LayerShape
from engine.paged_batch import PagedBatch
from engine.step import arrange
from tests.engine.chunks import make_chunk
from tests.engine.playing import BLOCK_SIZE, CPU, load_reference, make_runner
from tests.engine.tiny_models import make_tiny_model

NUM_QUERY_HEADS, NUM_KV_HEADS, DIM = 6, 2, 8
NUM_BLOCKS = 24


def make_cache() -> KVCache:
    """Filled with random keys and values, as if all positions had been computed."""
    cache = KVCache([LayerShape(NUM_KV_HEADS, DIM, DIM)], NUM_BLOCKS, BLOCK_SIZE, torch.float32, CPU)
    for tensor in (cache.layers[0].keys, cache.layers[0].values):
        tensor.normal_(generator=torch.Generator().manual_seed(1))
    return cache


def written_out(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, position: int, terms: Terms
) -> torch.Tensor:
    """One query token [heads, dim] over one sequence's keys and values [tokens, kv heads, dim]."""
    first = 0 if terms.window is None else max(0, position - terms.window + 1)
    group = NUM_QUERY_HEADS // NUM_KV_HEADS
    keys, values = (tensor[first : position + 1].repeat_interleave(group, dim=1) for tensor in (keys, values))
    scores = torch.einsum("hd,thd->ht", query, keys) * terms.scaling
    if terms.softcap is not None:
        scores = terms.softcap * torch.tanh(scores / terms.softcap)
    return torch.einsum("ht,thd->hd", scores.softmax(-1), values)


@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 1, 5, BLOCK_SIZE, 50])
@pytest.mark.parametrize(
    "chunks",
    [
        [(0, 1)],
        [(0, 37)],
        [(16, 16)],
        [(5, 30), (31, 1), (300, 1), (0, 1), (15, 1), (16, 1)],
    ],
)
def test_every_token_weighs_what_it_may_see(
    chunks: list[tuple[int, int]], window: int | None, softcap: float | None
) -> None:
    terms = Terms(scaling=0.3, softcap=softcap, window=window)
    tables = iter(torch.randperm(NUM_BLOCKS, generator=torch.Generator().manual_seed(2)).split(4))
    plan = [
        make_chunk(str(i), start=start, length=length, block_table=_table(start + length, tables))
        for i, (start, length) in enumerate(chunks)
    ]
    step, cache = arrange(plan, BLOCK_SIZE).step, make_cache()
    query, key, value = _random_tokens(len(step.token_ids))
    output = PagedStep(cache, PagedBatch(step, BLOCK_SIZE, torch.float32, CPU)).attend(0, query, key, value, terms)
    row = 0
    for start, length, table in zip(step.starts, step.lengths, step.tables, strict=True):
        keys, values = (tensor[table.tolist()].flatten(0, 1) for tensor in _layer(cache))
        for offset in range(length):
            expected = written_out(query[:, row], keys, values, int(start) + offset, terms)
            torch.testing.assert_close(output[row], expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(keys[start + offset], key[:, row])
            row += 1


def test_an_architecture_with_attention_sinks_is_refused() -> None:
    query = torch.zeros(1, NUM_QUERY_HEADS, 1, DIM)
    with pytest.raises(UnsupportedModel, match="'s_aux'"):
        paged_attention(torch.nn.Module(), query, query, query, None, step=ShapeProbe(), s_aux=torch.zeros(6))


def test_an_architecture_that_loses_the_step_on_the_way_is_refused() -> None:
    query = torch.zeros(1, NUM_QUERY_HEADS, 1, DIM)
    with pytest.raises(UnsupportedModel, match="does not pass the step on"):
        paged_attention(torch.nn.Module(), query, query, query, None)


def test_a_model_called_without_a_step_says_so(tmp_path: Path) -> None:
    make_runner(make_tiny_model(tmp_path))  # registers the attention
    model: Any = load_reference(tmp_path)
    model.set_attn_implementation("fastserve_paged")
    with pytest.raises(UnsupportedModel, match="LlamaAttention"):
        model(torch.tensor([[5]]))


def _table(num_tokens: int, tables: Any) -> list[int]:
    """Its own blocks for a short sequence; for the long one all, since it is only read."""
    num_blocks = -(-num_tokens // BLOCK_SIZE)
    return list(range(num_blocks)) if num_blocks > 4 else next(tables).tolist()[:num_blocks]


def _random_tokens(num_tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    heads = (NUM_QUERY_HEADS, NUM_KV_HEADS, NUM_KV_HEADS)
    query, key, value = (torch.randn(count, num_tokens, DIM, generator=generator) for count in heads)
    return query, key, value


def _layer(cache: KVCache) -> tuple[torch.Tensor, torch.Tensor]:
    return cache.layers[0].keys, cache.layers[0].values
