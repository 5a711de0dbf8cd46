"""Runs one step on this rank: tokens in, logits out. Knows nothing of requests, sampling or other ranks' timing."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from transformers import PreTrainedModel

from engine.architectures import UnsupportedModel, context_length
from engine.attention import AttentionStep, ShapeProbe
from engine.config import EngineConfig
from engine.cuda.build import cuda_tools, decode_graphs, reserved_bytes, wants_graphs
from engine.cuda.decode_graphs import DecodeGraphs
from engine.cuda.scratch import CacheWithScratch
from engine.fused.build import bytes_to_copy, fusable_shard
from engine.fused.runner import FusedRunner
from engine.kv_cache import KVCache, LayerShape, bytes_per_block
from engine.memory import available_blocks, host_free_bytes, longest_sequence, num_blocks, num_swap_slots
from engine.paged_batch import PagedBatch
from engine.process_group import World
from engine.step import Step
from engine.token_search import TORCH_SEARCH, TokenSearch
from engine.varlen_attention import attention_step, warn_if_gathering


class ModelRunner:
    """A rank's shard and its KV cache. Every rank must run every step: the layers reduce over all ranks."""

    def __init__(
        self, model: PreTrainedModel, cache: KVCache, device: torch.device, graphs: DecodeGraphs | None = None
    ) -> None:
        """graphs: recorded decodes of this model over this cache."""
        self.cache = cache
        self.search: TokenSearch = TORCH_SEARCH
        self._model = model
        self._device = device
        self._graphs = graphs
        self._dtype = next(model.parameters()).dtype

    @property
    def num_graphs(self) -> int:
        """Batch sizes whose decodes are replayed; 0 where every step runs eagerly."""
        return 0 if self._graphs is None else self._graphs.num_graphs

    @torch.inference_mode()
    def run(self, step: Step) -> torch.Tensor:
        """Writes the step into the cache; returns [len(step.rows), vocab] logits in float32, the same on all ranks.

        They are valid until the next step.
        """
        if self._graphs is not None and self._graphs.takes(step):
            return self._graphs.run(step)
        batch = PagedBatch(step, self.cache.block_size, self._dtype, self._device)
        self.cache.clear(batch.opened_blocks)
        step_attention = attention_step(self.cache, batch)
        logits = forward(self._model, batch.token_ids, batch.positions, batch.rows, step_attention)
        return logits[: len(step.rows)].float()


#: Either runs a step on this rank; the fused one where the machine and the model allow it.
Runner: TypeAlias = ModelRunner | FusedRunner


def forward(
    model: PreTrainedModel,
    token_ids: torch.Tensor,
    positions: torch.Tensor,
    rows: torch.Tensor,
    step: AttentionStep,
) -> torch.Tensor:
    """[num_rows, vocab] logits of a flat batch; of one row where none is wanted, since the head may be a collective."""
    wanted = rows if rows.numel() else rows.new_zeros(1)
    output = model(input_ids=token_ids, position_ids=positions, use_cache=False, logits_to_keep=wanted, step=step)
    logits: torch.Tensor = output.logits[0]
    return logits


def build_runner(model: PreTrainedModel, config: EngineConfig, world: World) -> Runner:
    """Learns the shard's shapes, agrees with the other ranks on the blocks, and allocates the cache. The model is of no
    use afterwards: a native program takes its weights apart.

    Raises:
        InsufficientMemory: too little is available on some rank.
    """
    longest, dtype = max_model_len(model, config), next(model.parameters()).dtype
    fusable = fusable_shard(model, config, longest, world)
    shapes = probe_shapes(model, world.device) if fusable is None else fusable.shapes
    if world.rank == 0:
        warn_if_gathering(world.device, dtype, config.block_size, shapes)
    block_bytes = bytes_per_block(shapes, config.block_size, dtype)
    swap_bytes = num_swap_slots(config, longest, block_bytes, host_free_bytes()) * block_bytes
    copied_bytes = 0 if fusable is None else bytes_to_copy(model)
    promised = copied_bytes + swap_bytes if world.device.type == "cpu" else 0
    records = wants_graphs(config, world, dtype, shapes)
    reserved = reserved_bytes(config, model.config.vocab_size, dtype, block_bytes) if records else 0
    available = min(world.gathered(available_blocks(config, block_bytes, world.device, promised, reserved)))
    blocks = num_blocks(config, longest, block_bytes, available)
    if fusable is not None:
        return fusable.runner(config, blocks, world.size)
    if not records:
        return ModelRunner(model, KVCache(shapes, blocks, config.block_size, dtype, world.device), world.device)
    cache = CacheWithScratch(shapes, blocks, config.block_size, dtype, world.device)
    return ModelRunner(model, cache, world.device, _recorded(model, cache, config, longest, world))


def _recorded(
    model: PreTrainedModel, cache: CacheWithScratch, config: EngineConfig, longest: int, world: World
) -> DecodeGraphs | None:
    return decode_graphs(
        partial(forward, model),
        cache,
        config,
        longest_sequence(config, longest, cache.num_blocks),
        model.config.vocab_size,
        world,
        cuda_tools(world),
    )


def max_model_len(model: PreTrainedModel, config: EngineConfig) -> int:
    """Tokens of prompt and answer: what is configured, at most what the checkpoint was made for."""
    longest = context_length(model.config)
    if config.max_model_len is not None and config.max_model_len > longest:
        raise UnsupportedModel(
            f"max_model_len: expected at most the checkpoint's context of {longest} tokens, got {config.max_model_len}"
        )
    return config.max_model_len or longest


@torch.inference_mode()
def probe_shapes(model: PreTrainedModel, device: torch.device) -> list[LayerShape]:
    """The cache shape of each layer of this shard, from one token run through it.

    Raises:
        UnsupportedModel: a layer did not call the attention that it was given.
    """
    probe = ShapeProbe()
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    forward(model, zero.unsqueeze(0), zero.unsqueeze(0), zero, probe)
    expected = list(range(model.config.num_hidden_layers))
    if sorted(probe.shapes) != expected:
        raise UnsupportedModel(
            f"{model.config.model_type}: expected attention in layers {expected}, found it in {sorted(probe.shapes)}"
        )
    return [probe.shapes[layer] for layer in expected]
