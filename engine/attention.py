"""Owns attention over the paged KV cache, as transformers calls it. Knows nothing of models, weights or requests.

Registered as `fastserve_paged`. The model is called with a flat batch `[1, num_tokens]`, no mask, no cache, and the
keyword `step`: whatever stands there attends. Keys and values of the step are written first, then read by block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone knows)
from transformers import AttentionInterface

from engine.architectures import UnsupportedModel
from engine.kv_cache import KVCache, LayerCache, LayerShape
from engine.paged_batch import DecodeGroup, PagedBatch, PrefillChunk

ATTENTION_NAME = "fastserve_paged"
#: Arguments with which some architectures change the result in ways that are not computed here.
_UNSUPPORTED_ARGUMENTS = ("s_aux", "position_bias")


@dataclass(frozen=True, slots=True)
class Terms:
    """How one layer weighs its keys: softmax(cap(query @ key * scaling)) over the last `window` positions."""

    scaling: float
    softcap: float | None = None
    window: int | None = None


class AttentionStep(Protocol):
    """What stands in the keyword `step`."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, terms: Terms
    ) -> torch.Tensor:
        """query: [num_query_heads, num_tokens, dim]; key, value: [num_kv_heads, num_tokens, dim], after RoPE.
        Returns [num_tokens, num_query_heads, value_dim]."""
        ...


def register_paged_attention() -> None:
    """Makes `attn_implementation="fastserve_paged"` known to transformers.

    It gets no function for masks, so transformers makes none and does not look at the positions, for which it would
    wait for the device. Masks are the step's: transformers' own would be as large as the square of the batch.
    """
    AttentionInterface.register(ATTENTION_NAME, paged_attention)


def paged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    step: AttentionStep | None = None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: [1, heads, num_tokens, dim] in, [1, num_tokens, heads, dim] out."""
    if step is None:
        raise UnsupportedModel(f"{type(module).__name__}: it does not pass the step on to its attention")
    for name in _UNSUPPORTED_ARGUMENTS:
        if kwargs.get(name) is not None:
            raise UnsupportedModel(f"{type(module).__name__}: its attention needs {name!r}, which is not computed here")
    terms = Terms(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, sliding_window)
    return step.attend(int(module.layer_idx), query[0], key[0], value[0], terms).unsqueeze(0), None  # type: ignore[arg-type]


@dataclass(slots=True)
class ShapeProbe:
    """Attends to nothing and notes each layer's shapes: what a shard holds is asked of the shard itself."""

    shapes: dict[int, LayerShape] = field(default_factory=dict)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, terms: Terms
    ) -> torch.Tensor:
        self.shapes[layer] = LayerShape(num_kv_heads=key.shape[0], key_dim=key.shape[-1], value_dim=value.shape[-1])
        return value.new_zeros(query.shape[1], query.shape[0], value.shape[-1])


@dataclass(frozen=True, slots=True)
class PagedStep:
    """One step over the cache: decodes in batches of similar length, prefill chunks one by one."""

    cache: KVCache
    batch: PagedBatch

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, terms: Terms
    ) -> torch.Tensor:
        layer_cache = self.cache.layers[layer]
        layer_cache.write(self.batch.slots, key.transpose(0, 1), value.transpose(0, 1))
        plan = self.batch.plan(terms.window)
        parts = [_decode(layer_cache, query[:, group.rows], group, terms) for group in plan.decodes]
        for chunk in plan.prefills:
            keys, values = _context(layer_cache, key, value, chunk)
            parts.append(_prefill(query[:, chunk.rows], keys, values, chunk.mask, terms))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _decode(cache: LayerCache, query: torch.Tensor, group: DecodeGroup, terms: Terms) -> torch.Tensor:
    """The query heads that share a key-value head become rows of one call, so that each key is read once."""
    num_rows = query.shape[1]
    keys, values = (
        tensor.index_select(0, group.blocks).view(num_rows, -1, *tensor.shape[2:]).transpose(1, 2)
        for tensor in (cache.keys, cache.values)
    )
    folded = query.transpose(0, 1).unflatten(1, (keys.shape[1], -1))
    return _weigh(folded, keys, values, group.mask, terms).flatten(1, 2)


def _context(
    cache: LayerCache, key: torch.Tensor, value: torch.Tensor, chunk: PrefillChunk
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values [num_kv_heads, context_length, dim] that a chunk looks at, its own included."""
    if chunk.blocks is None:
        return key[:, chunk.rows], value[:, chunk.rows]
    keys, values = (
        tensor.index_select(0, chunk.blocks).flatten(0, 1)[: chunk.context_length].transpose(0, 1)
        for tensor in (cache.keys, cache.values)
    )
    return keys, values


def _prefill(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, terms: Terms
) -> torch.Tensor:
    """Key-value heads take the place of the batch; their query heads share them without a copy (a stride of 0)."""
    num_kv_heads, group_size = keys.shape[0], query.shape[0] // keys.shape[0]
    keys, values = (tensor.unsqueeze(1).expand(-1, group_size, -1, -1) for tensor in (keys, values))
    output = _weigh(query.unflatten(0, (num_kv_heads, group_size)), keys, values, mask, terms)
    return output.flatten(0, 1).transpose(0, 1)


def _weigh(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, terms: Terms
) -> torch.Tensor:
    """Scaled dot-product attention; without a mask, causal."""
    if terms.softcap is None:
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=mask is None, scale=terms.scaling
        )
    scores = terms.softcap * torch.tanh(query @ keys.transpose(-1, -2) * (terms.scaling / terms.softcap))
    if mask is None:
        mask = scores.new_full(scores.shape[-2:], float("-inf")).triu_(1)
    return torch.softmax(scores + mask, dim=-1, dtype=torch.float32).to(values.dtype) @ values
