"""Owns the choice between the native program and the plain modules on CPU. Knows nothing of steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from engine.config import EngineConfig, threads_per_rank
from engine.fused.blueprint import Attention, Decoder
from engine.fused.cache import PackedKVCache
from engine.fused.compiled import NoNativeLibrary
from engine.fused.families import NotFusable, read_decoder
from engine.fused.library import NativeLibrary, load_library
from engine.fused.program import compile_decoder
from engine.fused.runner import FusedRunner
from engine.kv_cache import LayerShape
from engine.process_group import World

_RUN_TOKENS = 16
_MAX_HEAD_DIM = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CacheSize:
    """What the KV cache of this rank has to hold."""

    shapes: list[LayerShape]
    num_blocks: int


def fused_runner(
    model: PreTrainedModel, size: CacheSize, config: EngineConfig, max_model_len: int, world: World
) -> FusedRunner | None:
    """The native program for this shard; None, on every rank alike, where the plain modules have to run.

    It holds copies of the weights in its own order. All ranks must call it.
    """
    if config.cpu_kernels == "torch" or world.device.type != "cpu":
        return None
    reason, found = "", None
    try:
        found = _prepared(model, config, max_model_len, world)
    except (NotFusable, NoNativeLibrary) as error:
        reason = str(error)
    if not all(world.gathered(int(found is not None))):
        if world.rank == 0:
            _log.warning("steps run through the plain modules, which is slower: %s", reason or "another rank cannot")
        return None
    assert found is not None
    decoder, library = found
    max_tokens = max(config.max_num_batched_tokens, config.max_num_seqs)
    cache = PackedKVCache(size.shapes, size.num_blocks, config.block_size, library.dtype)
    compiled = compile_decoder(decoder, cache, library, max_tokens, world.size)
    return FusedRunner(compiled, library, cache, decoder.vocab_size, _all_reduce)


def bytes_to_copy(model: PreTrainedModel, config: EngineConfig) -> int:
    """What the native program's own copy of this rank's weights takes, before the model's can be let go."""
    return 0 if config.cpu_kernels == "torch" else sum(parameter.nbytes for parameter in model.parameters())


def _prepared(
    model: PreTrainedModel, config: EngineConfig, max_model_len: int, world: World
) -> tuple[Decoder, NativeLibrary]:
    if config.block_size % _RUN_TOKENS:
        raise NotFusable(f"block_size {config.block_size}; expected a multiple of {_RUN_TOKENS}")
    library = load_library(getattr(torch, config.dtype), threads_per_rank(config))
    decoder = read_decoder(model, world.rank, max_model_len)
    for layer in decoder.layers:
        _check_heads(layer.attention)
        _check_norms(layer.attention)
    return decoder, library


def _check_heads(attention: Attention) -> None:
    if attention.head_dim % _RUN_TOKENS or attention.head_dim > _MAX_HEAD_DIM:
        raise NotFusable(f"heads of {attention.head_dim}; expected a multiple of {_RUN_TOKENS} up to {_MAX_HEAD_DIM}")
    if attention.rotary.dim > attention.head_dim:
        raise NotFusable(f"{attention.rotary.dim} rotary dimensions in heads of {attention.head_dim}")
    if attention.num_kv_heads == 0 or attention.num_heads % attention.num_kv_heads:
        raise NotFusable(f"{attention.num_heads} heads that share {attention.num_kv_heads} key-value heads")


def _check_norms(attention: Attention) -> None:
    """Of queries and keys: the program knows one epsilon for both, and root mean squares only."""
    norms = [norm for norm in (attention.query_norm, attention.key_norm) if norm is not None]
    if any(norm.layer_norm or norm.bias is not None or norm.epsilon != norms[0].epsilon for norm in norms):
        raise NotFusable("queries and keys that are not normed alike, by the root of the mean square")


def _all_reduce(tensor: torch.Tensor) -> None:
    """DeepSpeed's, which goes through shared memory where all ranks can."""
    import deepspeed.comm

    deepspeed.comm.inference_all_reduce(tensor)
