"""Owns the choice between captured and eager decodes, and what the captured ones may cost. Knows nothing of steps."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import torch

from engine.config import EngineConfig
from engine.cuda.buckets import bucket_sizes
from engine.cuda.decode_graphs import DecodeGraphs, Forward, NotCapturable, Recorder
from engine.cuda.recorder import CudaRecorder
from engine.cuda.scratch import CacheWithScratch
from engine.kv_cache import LayerShape
from engine.memory import free_bytes
from engine.process_group import World
from engine.varlen_attention import VarlenAttention, can_use_varlen, varlen_kernel

#: What the driver keeps for one graph of some thousand kernels; a reserve, not a measurement.
BYTES_PER_GRAPH = 16 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptureTools:
    """What decodes are recorded with: the kernel that reads the cache, and what records."""

    attention: VarlenAttention
    recorder: Recorder


def wants_graphs(config: EngineConfig, world: World, dtype: torch.dtype, shapes: list[LayerShape]) -> bool:
    """Whether decodes are to be recorded: asked for, and with the kernel that needs no copies of the cache."""
    return config.cuda_graphs == "auto" and can_use_varlen(world.device, dtype, config.block_size, shapes)


def reserved_bytes(config: EngineConfig, vocab_size: int, dtype: torch.dtype, block_bytes: int) -> int:
    """What the graphs of one rank take beside weights and cache: the graphs themselves, the logits of the largest
    batch (in the model's type inside the graphs' pool, in float32 outside), and the scratch block."""
    logits_bytes = config.max_num_seqs * vocab_size * (dtype.itemsize + torch.float32.itemsize)
    return len(bucket_sizes(config.max_num_seqs)) * BYTES_PER_GRAPH + logits_bytes + block_bytes


def cuda_tools(world: World) -> CaptureTools:
    return CaptureTools(varlen_kernel(), CudaRecorder(world.device))


@torch.inference_mode()
def decode_graphs(
    forward: Forward,
    cache: CacheWithScratch,
    config: EngineConfig,
    max_model_len: int,
    vocab_size: int,
    world: World,
    tools: CaptureTools,
) -> DecodeGraphs | None:
    """The recorded decodes of this rank; None, on every rank alike, where one of them cannot record, and the log says
    why. All ranks must call it."""
    began_s, free_before = time.monotonic(), free_bytes(world.device)
    logits = torch.zeros(config.max_num_seqs, vocab_size, dtype=torch.float32, device=world.device)
    graphs = DecodeGraphs(cache, bucket_sizes(config.max_num_seqs), max_model_len, logits)
    try:
        graphs.record(forward, tools.attention, tools.recorder, lambda ok: all(world.gathered(int(ok))))
    except NotCapturable as problem:
        _log.warning("rank %d: decodes run eagerly, which is slower: %s", world.rank, problem)
        return None
    took_s, took_bytes = time.monotonic() - began_s, free_before - free_bytes(world.device)
    _log.info("rank %d: %d decode graphs in %.1f s and %d bytes", world.rank, graphs.num_graphs, took_s, took_bytes)
    return graphs
