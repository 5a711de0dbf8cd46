"""Tests what needs no GPU: the shipped GPU configuration, what it reserves, and why a GPU test is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deployments.app import replica_resources
from deployments.config import ModelConfig
from deployments.serve_config import load_serve_config
from engine.kv_cache import LayerShape
from engine.varlen_attention import can_use_varlen
from tests.gpu.conftest import too_few

CONFIG = Path(__file__).parents[2] / "serve_config.gpu.yaml"
TENSOR_PARALLEL_SIZES = {"qwen3-8b": 2, "qwen3-32b": 4, "llama-3.3-70b": 8}


@pytest.fixture(scope="module")
def models() -> dict[str, ModelConfig]:
    return {model.name: model for model in load_serve_config(CONFIG).serving.models}


def test_the_shipped_models_are_split_over_2_4_and_8_gpus(models: dict[str, ModelConfig]) -> None:
    assert {name: model.tensor_parallel_size for name, model in models.items()} == TENSOR_PARALLEL_SIZES


@pytest.mark.parametrize("name", TENSOR_PARALLEL_SIZES)
def test_the_shipped_models_keep_their_cache_in_pages_that_the_kernel_reads(
    name: str, models: dict[str, ModelConfig]
) -> None:
    config = models[name].to_engine_config()
    shapes = [LayerShape(num_kv_heads=8, key_dim=128, value_dim=128)]
    assert can_use_varlen(torch.device(config.device), getattr(torch, config.dtype), config.block_size, shapes)


@pytest.mark.parametrize("name", TENSOR_PARALLEL_SIZES)
def test_every_rank_reserves_one_gpu_on_one_node_and_the_replica_none(
    name: str, models: dict[str, ModelConfig]
) -> None:
    model = models[name]
    resources = replica_resources(model, on_gpu=model.to_engine_config().device == "cuda")

    replica, *ranks = resources.bundles()

    assert "GPU" not in replica
    assert ranks == [{"CPU": model.cpus_per_rank, "GPU": 1}] * TENSOR_PARALLEL_SIZES[name]
    assert resources.strategy == "STRICT_PACK"


def test_a_skip_says_how_many_devices_are_needed_and_found() -> None:
    assert too_few(2, found=0) == "needs 2 CUDA devices, found 0"
    assert too_few(found=0) == "needs 1 CUDA device, found 0"
    assert too_few(2, found=2) is None
