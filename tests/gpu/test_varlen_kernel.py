"""Tests that torch's variable-length kernel and the gathered attention give the same over one paged cache."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.nn.attention.varlen import varlen_attn

from engine.attention import PagedStep, Terms
from engine.kv_cache import KVCache, LayerShape
from engine.paged_batch import PagedBatch
from engine.step import arrange
from engine.varlen_attention import PAGE_TOKENS, VarlenAttention, VarlenStep, attention_step
from tests.engine.chunks import make_chunk

NUM_QUERY_HEADS = 8
SHAPE = LayerShape(num_kv_heads=2, key_dim=64, value_dim=64)
#: (start, number of new tokens, blocks): decodes around the edge of a page, a whole prompt, and a later chunk of one.
DECODES = [(0, 1, [4]), (255, 1, [0]), (256, 1, [7, 1]), (700, 1, [9, 2, 5])]
CHUNKS = [*DECODES, (0, 40, [3]), (300, 200, [8, 6])]
NUM_BLOCKS = 10


@dataclass(frozen=True, slots=True)
class PagedCase:
    """One layer's cache with a past in it, and a step with queries, keys and values for it."""

    cache: KVCache
    batch: PagedBatch
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    def gathered(self, terms: Terms) -> torch.Tensor:
        return PagedStep(self.cache, self.batch).attend(0, self.query, self.key, self.value, terms)

    def by_kernel(self, kernel: VarlenAttention, terms: Terms) -> torch.Tensor:
        step = VarlenStep(PagedStep(self.cache, self.batch), kernel)
        return step.attend(0, self.query, self.key, self.value, terms)


def make_case(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, places: list[tuple[int, int, list[int]]] = CHUNKS
) -> PagedCase:
    chunks = [
        make_chunk(str(index), start=start, length=length, block_table=blocks)
        for index, (start, length, blocks) in enumerate(places)
    ]
    batch = PagedBatch(arrange(chunks, PAGE_TOKENS).step, PAGE_TOKENS, dtype, device)
    cache = KVCache([SHAPE], NUM_BLOCKS, PAGE_TOKENS, dtype, device)
    generator = torch.Generator(device).manual_seed(0)
    for tensor in (cache.layers[0].keys, cache.layers[0].values):
        tensor.normal_(generator=generator)
    num_tokens = sum(length for _, length, _ in places)
    query, key, value = (
        torch.empty(num_heads, num_tokens, SHAPE.key_dim, dtype=dtype, device=device).normal_(generator=generator)
        for num_heads in (NUM_QUERY_HEADS, SHAPE.num_kv_heads, SHAPE.num_kv_heads)
    )
    return PagedCase(cache, batch, query, key, value)


@pytest.mark.gpu
@torch.inference_mode()
@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("places", [CHUNKS, DECODES], ids=["mixed", "decodes"])
def test_the_kernel_attends_as_the_gathered_path_does(
    window: int | None, places: list[tuple[int, int, list[int]]]
) -> None:
    case = make_case(torch.device("cuda"), places=places)
    terms = Terms(scaling=0.1, window=window)
    torch.testing.assert_close(case.by_kernel(varlen_attn, terms), case.gathered(terms), atol=2e-2, rtol=2e-2)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_the_kernel_is_what_a_step_on_cuda_uses() -> None:
    case = make_case(torch.device("cuda"))
    assert isinstance(attention_step(case.cache, case.batch), VarlenStep)
