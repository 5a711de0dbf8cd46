"""Attention on CUDA through torch's variable-length kernel, which reads the paged cache by block table itself.

Knows nothing of models. What the kernel cannot do goes to `PagedStep`, which computes the same anywhere.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Protocol, cast

import torch

from engine.attention import AttentionStep, PagedStep, Terms
from engine.kv_cache import KVCache, LayerCache, LayerShape
from engine.paged_batch import PagedBatch, SequenceTensors

#: The kernel reads pages of a multiple of this many tokens.
PAGE_TOKENS = 256
_MAX_HEAD_DIM = 256
_log = logging.getLogger(__name__)


class VarlenAttention(Protocol):
    """`torch.nn.attention.varlen.varlen_attn`."""

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float,
        window_size: tuple[int, int],
        enable_gqa: bool,
        seqused_k: torch.Tensor,
        block_table: torch.Tensor,
    ) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Longest:
    """The most new tokens of a sequence of the step, and its most keys; more is allowed, and costs a little."""

    num_queries: int
    num_keys: int


@dataclass(frozen=True, slots=True)
class VarlenStep:
    """One step: all sequences, decodes and prefills alike, in one call a layer."""

    fallback: PagedStep
    attention: VarlenAttention
    longest: Longest = field(init=False)

    def __post_init__(self) -> None:
        step = self.fallback.batch.step
        longest = Longest(int(step.lengths.max()), int((step.starts + step.lengths).max()))
        object.__setattr__(self, "longest", longest)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, terms: Terms
    ) -> torch.Tensor:
        """As `AttentionStep.attend`."""
        if terms.softcap is not None:
            return self.fallback.attend(layer, query, key, value, terms)
        cache, batch = self.fallback.cache.layers[layer], self.fallback.batch
        cache.write(batch.slots, key.transpose(0, 1), value.transpose(0, 1))
        return attend_by_table(self.attention, query, cache, batch.sequences, self.longest, terms)


def attend_by_table(
    attention: VarlenAttention,
    query: torch.Tensor,
    cache: LayerCache,
    sequences: SequenceTensors,
    longest: Longest,
    terms: Terms,
) -> torch.Tensor:
    """[num_tokens, num_query_heads, dim] of [num_query_heads, num_tokens, dim] over what the cache holds by now."""
    return attention(
        query.transpose(0, 1),
        cache.keys,
        cache.values,
        sequences.cumulative_queries,
        sequences.cumulative_keys,  # demanded, though with a block table the kernel goes by `seqused_k`
        longest.num_queries,
        longest.num_keys,
        scale=terms.scaling,
        window_size=_window_size(longest.num_queries, terms.window),
        enable_gqa=True,
        seqused_k=sequences.num_keys,
        block_table=sequences.block_table,
    )


def _window_size(most_queries: int, window: int | None) -> tuple[int, int]:
    """How far a query sees to the left and right; -1: all. A decode's one query has nothing to its right, and where
    nothing is hidden from it the kernel takes the query heads of a key-value head together."""
    if window is not None:
        return window - 1, 0
    return -1, -1 if most_queries == 1 else 0


def can_use_varlen(device: torch.device, dtype: torch.dtype, block_size: int, shapes: list[LayerShape]) -> bool:
    """Whether the kernel takes such a cache."""
    return device.type == "cuda" and next(_objections(dtype, block_size, shapes), None) is None


def warn_if_gathering(device: torch.device, dtype: torch.dtype, block_size: int, shapes: list[LayerShape]) -> None:
    """Says, where there is a GPU, that its kernel cannot be used and why: the cache is then copied at every step."""
    objection = next(_objections(dtype, block_size, shapes), None)
    if device.type == "cuda" and objection is not None:
        _log.warning("attention gathers the KV cache, which is slow on a GPU: the kernel needs %s", objection)


def _objections(dtype: torch.dtype, block_size: int, shapes: list[LayerShape]) -> Iterator[str]:
    if dtype not in (torch.float16, torch.bfloat16):
        yield f"dtype float16 or bfloat16, got {str(dtype).removeprefix('torch.')}"
    if block_size % PAGE_TOKENS:
        yield f"block_size in multiples of {PAGE_TOKENS}, got {block_size}"
    for shape in shapes:
        if not shape.key_dim == shape.value_dim <= _MAX_HEAD_DIM:
            yield (
                f"keys and values of one size up to {_MAX_HEAD_DIM}, got keys of {shape.key_dim} and values of "
                f"{shape.value_dim}"
            )


def attention_step(cache: KVCache, batch: PagedBatch) -> AttentionStep:
    """The fastest step for this cache."""
    paged = PagedStep(cache, batch)
    if not can_use_varlen(batch.device, batch.dtype, cache.block_size, cache.shapes):
        return paged
    return VarlenStep(paged, varlen_kernel())


@cache
def varlen_kernel() -> VarlenAttention:
    """torch's kernel, told not to split one sequence's keys where it can be told (`num_splits`): how they are split
    depends on the batch, and a row's result should not."""
    from torch.nn.attention.varlen import varlen_attn

    return without_splits(cast("VarlenAttention", varlen_attn))  # it returns a pair only where one is asked for


def without_splits(kernel: VarlenAttention) -> VarlenAttention:
    """The kernel with `num_splits=1`, or as it is where it has no such argument."""
    can_be_told = "num_splits" in inspect.signature(kernel).parameters
    return partial(cast("Callable[..., torch.Tensor]", kernel), num_splits=1) if can_be_told else kernel
