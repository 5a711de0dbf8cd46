"""Loads a model as a replica does and measures its engine. For a process of its own, which ends all that it starts."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from engine.config import EngineConfig, threads_per_rank
from engine.protocol import EngineCapacity, InferenceEngine
from fastserve.calibration.fit import EngineFit, fit_engine, fit_loop
from fastserve.calibration.loop_steps import loop_step_s
from fastserve.calibration.steps import measure_steps
from fastserve.ports import LOOPBACK, free_port
from scheduling.swap_area import BlockCopies

_NUM_COPIES = 32
_MOST_COPIED_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class MeasuredEngine:
    """What an engine holds and what it costs."""

    capacity: EngineCapacity
    fit: EngineFit


def measure_engine(config: EngineConfig, num_rounds: int, seed: int) -> MeasuredEngine:
    """One rank's engine, alone on its machine.

    Raises:
        CheckpointError, InsufficientMemory: the model cannot be loaded like this; the message says why.
        FitFailed: it holds too little for the steps that are needed.
    """
    engine = _load(config)
    capacity = engine.capacity()
    samples = measure_steps(engine, num_rounds, seed)
    fit = fit_engine(
        samples,
        loop=fit_loop(lambda number: loop_step_s(config, number), capacity.max_num_seqs),
        copied_block_s=_copied_block_s(engine, capacity),
        block_bytes=capacity.block_bytes,
    )
    return MeasuredEngine(capacity, fit)


def _load(config: EngineConfig) -> InferenceEngine:
    """Threads and device are read once, when torch is first imported."""
    if config.backend == "fake":
        from engine.backends.fake import FakeEngine

        return FakeEngine(config)
    os.environ["DS_ACCELERATOR"] = config.device
    os.environ["OMP_NUM_THREADS"] = str(threads_per_rank(config))
    from engine.backends.deepspeed import DeepSpeedEngine, load_rank

    return DeepSpeedEngine(load_rank(config, 0, LOOPBACK, free_port()))


def _copied_block_s(engine: InferenceEngine, capacity: EngineCapacity) -> float:
    """Of many copies out and in; the first, into memory that the system has yet to give, do not count. 0 without a swap
    area."""
    number = min(_MOST_COPIED_BLOCKS, capacity.num_swap_slots, capacity.num_blocks)
    if not number:
        return 0.0
    pairs = [(place, place) for place in range(number)]
    engine.copy_blocks(BlockCopies(outward=pairs))
    began_s = time.perf_counter()
    for _ in range(_NUM_COPIES):
        engine.copy_blocks(BlockCopies(outward=pairs))
        engine.copy_blocks(BlockCopies(inward=pairs))
    return (time.perf_counter() - began_s) / (2 * _NUM_COPIES * number)
