"""Owns the choice between the native program and the plain modules on CPU. Knows nothing of steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from engine import shared_memory
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
class FusableShard:
    """A shard that the native program can compute, before it has taken any memory."""

    decoder: Decoder
    library: NativeLibrary

    @property
    def shapes(self) -> list[LayerShape]:
        """What each layer keeps in the KV cache on this rank."""
        attentions = [layer.attention for layer in self.decoder.layers]
        return [LayerShape(each.num_kv_heads, each.head_dim, each.head_dim) for each in attentions]

    def runner(self, config: EngineConfig, num_blocks: int, num_ranks: int) -> FusedRunner:
        """The native program over a KV cache of so many blocks.

        It copies the weights into its own order and gives the model's back to the system on the way, layer by layer:
        the modules of the model are of no use from then on.
        """
        cache = PackedKVCache(self.shapes, num_blocks, config.block_size, self.library.dtype)
        max_tokens = max(config.max_num_batched_tokens, config.max_num_seqs)
        compiled = compile_decoder(self.decoder, cache, self.library, max_tokens, num_ranks)
        all_reduce = shared_memory.all_reduce() if num_ranks > 1 else _nobody_else
        return FusedRunner(compiled, self.library, cache, self.decoder.vocab_size, all_reduce)


def fusable_shard(
    model: PreTrainedModel, config: EngineConfig, max_model_len: int, world: World
) -> FusableShard | None:
    """This shard for the native program; None, on every rank alike, where the plain modules have to run.

    All ranks must call it.
    """
    if config.cpu_kernels == "torch" or world.device.type != "cpu":
        return None
    reason, found = "", None
    try:
        found = _examined(model, config, max_model_len, world)
    except (NotFusable, NoNativeLibrary) as error:
        reason = str(error)
    if all(world.gathered(int(found is not None))):
        return found
    if world.rank == 0:
        _log.warning("steps run through the plain modules, which is slower: %s", reason or "another rank cannot")
    return None


def bytes_to_copy(model: PreTrainedModel) -> int:
    """What the native program's own copy of this rank's weights takes; those of the model may lie in its file's pages,
    which the system counts as free."""
    return sum(parameter.nbytes for parameter in model.parameters())


def _examined(model: PreTrainedModel, config: EngineConfig, max_model_len: int, world: World) -> FusableShard:
    if config.block_size % _RUN_TOKENS:
        raise NotFusable(f"block_size {config.block_size}; expected a multiple of {_RUN_TOKENS}")
    library = load_library(getattr(torch, config.dtype), threads_per_rank(config))
    decoder = read_decoder(model, world.rank, max_model_len)
    for layer in decoder.layers:
        _check_heads(layer.attention)
        _check_norms(layer.attention)
    return FusableShard(decoder, library)


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


def _nobody_else(tensor: torch.Tensor) -> None:
    raise AssertionError("one rank has nothing to sum")
