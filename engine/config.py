"""Owns the settings of one engine, checked before anything is loaded. Knows nothing of YAML, Ray or HTTP."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

Device = Literal["cpu", "cuda"]
Dtype = Literal["bfloat16", "float32", "float16"]
Backend = Literal["deepspeed", "fake"]
CpuKernels = Literal["auto", "torch"]
CudaGraphs = Literal["auto", "off"]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine: which model, how it is split, and how much it may hold at a time.

    source: a directory, a hub id, or `embedded:SmolLM2-135M-Instruct`.
    max_model_len: tokens of prompt and answer; None takes the checkpoint's own context.
    max_num_batched_tokens: the token budget of one step (decodes first, then chunks of prefill).
    kv_cache_tokens: tokens that the KV cache holds; None lets the engine choose from what is free.
    parked_limit: how many preempted sequences may wait beside `max_num_seqs` running ones.
    cpu_kernels: auto takes the native program where machine and model allow it, torch always the plain modules.
    cuda_graphs: auto replays recorded decodes on a GPU where model and settings allow it, off runs every step eagerly.
    num_threads: OpenMP threads of each rank on CPU; None shares the cores between the ranks.
    """

    model_name: str
    source: str
    backend: Backend = "deepspeed"
    device: Device = "cpu"
    dtype: Dtype = "bfloat16"
    tensor_parallel_size: int = 1
    max_num_seqs: int = 32
    max_model_len: int | None = None
    max_num_batched_tokens: int = 512
    block_size: int = 16
    kv_cache_tokens: int | None = None
    parked_limit: int = 8
    preemption_margin_levels: float = 5.0
    prefix_caching: bool = True
    cpu_kernels: CpuKernels = "auto"
    cuda_graphs: CudaGraphs = "auto"
    num_threads: int | None = None
    fake_step_s: float = 0.005


def threads_per_rank(config: EngineConfig) -> int:
    """`num_threads`, or this process's cores shared evenly by the ranks."""
    return config.num_threads or max(1, len(os.sched_getaffinity(0)) // config.tensor_parallel_size)
