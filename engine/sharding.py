"""Owns the split of a model over the ranks: DeepSpeed AutoTP, and each rank's own bytes. Knows nothing of requests."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from transformers import PreTrainedModel

from engine.attention import ATTENTION_NAME, register_paged_attention
from engine.checkpoint import is_stored_as, load_model, weight_bytes
from engine.config import EngineConfig
from engine.memory import check_weights, free_bytes
from engine.process_group import World


def load_shard(config: EngineConfig, folder: Path, world: World) -> PreTrainedModel:
    """This rank's part of the model, ready for steps; all ranks must call it.

    Raises:
        InsufficientMemory: the ranks of this machine cannot hold it while they load.
    """
    dtype: torch.dtype = getattr(torch, config.dtype)
    free = free_bytes(torch.device("cpu"))
    check_weights(weight_bytes(folder, dtype), world.size, free, mapped=is_stored_as(folder, dtype))
    register_paged_attention()
    return shard(load_model(folder, dtype, ATTENTION_NAME), world, dtype)


def shard(model: PreTrainedModel, world: World, dtype: torch.dtype) -> PreTrainedModel:
    """Splits the model with AutoTP (at size 1 DeepSpeed only adopts it) and returns the module, to be driven by us."""
    import deepspeed

    buffers = {name: buffer.clone() for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it is doing
        engine = deepspeed.init_inference(
            model,
            tensor_parallel={"tp_size": world.size},
            dtype=dtype,
            replace_with_kernel_inject=False,
        )
    module: PreTrainedModel = engine.module
    _restore_buffers(module, buffers)
    return module


def parameter_bytes(model: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _restore_buffers(model: torch.nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """DeepSpeed casts buffers too, and RoPE frequencies in bfloat16 are wrong from a few hundred positions on."""
    for name, buffer in buffers.items():
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        setattr(module, attribute, buffer.to(module.get_buffer(attribute).device))
