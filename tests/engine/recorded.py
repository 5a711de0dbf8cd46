"""Builds runners whose decodes are recorded on tape. Knows no GPU: a plain function stands for torch's kernel."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from engine.attention import ATTENTION_NAME, register_paged_attention
from engine.checkpoint import load_model
from engine.config import EngineConfig
from engine.cuda.build import CaptureTools, decode_graphs
from engine.cuda.decode_graphs import Recorder
from engine.cuda.scratch import CacheWithScratch
from engine.process_group import World
from engine.runner import ModelRunner, forward, probe_shapes
from tests.engine.playing import ALONE, BLOCK_SIZE, CPU
from tests.engine.test_varlen_attention import plain_varlen
from tests.engine.tiny_models import VOCAB_SIZE

MAX_MODEL_LEN = 256


@torch.library.custom_op("fastserve_tests::attend", mutates_args=())
def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    scale: float,
    window_size: list[int],
    enable_gqa: bool,
    seqused_k: torch.Tensor,
    block_table: torch.Tensor,
) -> torch.Tensor:
    settings = {"scale": scale, "enable_gqa": enable_gqa, "seqused_k": seqused_k, "block_table": block_table}
    sizes = (cu_seq_q, cu_seq_k, max_q, max_k)
    return plain_varlen(query, key, value, *sizes, window_size=tuple(window_size), **settings)


def attend_as_one_operator(*args: Any, **settings: Any) -> torch.Tensor:
    """A tape sees one operator, as a GPU sees one kernel."""
    output: torch.Tensor = _attend(*args, **settings)
    return output


def make_recorded_runner(
    folder: Path, recorder: Recorder, max_num_seqs: int = 8, num_blocks: int = 64, world: World = ALONE
) -> ModelRunner:
    """The whole model on one rank, in float32, without DeepSpeed."""
    register_paged_attention()
    model = load_model(folder, torch.float32, ATTENTION_NAME)
    cache = CacheWithScratch(probe_shapes(model, CPU), num_blocks, BLOCK_SIZE, torch.float32, CPU)
    config = EngineConfig("m", "", max_num_seqs=max_num_seqs)
    tools = CaptureTools(attend_as_one_operator, recorder)
    run = partial(forward, model)
    graphs = decode_graphs(run, cache, config, MAX_MODEL_LEN, VOCAB_SIZE, world, tools)
    return ModelRunner(model, cache, CPU, graphs)
