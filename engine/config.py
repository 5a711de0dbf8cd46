"""Owns the settings of one engine, checked before anything is loaded. Knows nothing of YAML, Ray or HTTP."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from scheduling.batch_plan import Preemption

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
    max_decode_stretch: how many times as long as its decodes alone a step may take for the sake of a prompt; None: no
    bound but the token budget.
    parked_limit: how many preempted sequences may wait beside `max_num_seqs` running ones.
    preemption: how a running sequence's blocks are taken away: `swap` copies them to host memory, `recompute` computes
    them again, `auto` takes what costs less, and with `off` nobody gives way: a newcomer waits until its longest answer
    and those of all who run are sure of their blocks.
    swap_space_tokens: tokens that the swap area of host memory holds; 0 none; None lets the engine choose.
    step_timeout_s: a step that takes longer, for each 512 tokens that it has begun, is taken for hung.
    cpu_kernels: auto takes the native program where machine and model allow it, torch always the plain modules.
    cuda_graphs: auto replays recorded decodes on a GPU where model and settings allow it, off runs every step eagerly.
    num_threads: threads that compute of each rank on CPU; None shares the cores between the ranks.
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
    max_decode_stretch: float | None = 1.7
    preemption: Preemption = "auto"
    swap_space_tokens: int | None = None
    step_timeout_s: float = 60.0
    prefix_caching: bool = True
    cpu_kernels: CpuKernels = "auto"
    cuda_graphs: CudaGraphs = "auto"
    num_threads: int | None = None
    fake_step_s: float = 0.005


def threads_per_rank(config: EngineConfig) -> int:
    """`num_threads`, or this process's cores shared evenly by the ranks."""
    return config.num_threads or max(1, len(os.sched_getaffinity(0)) // config.tensor_parallel_size)
