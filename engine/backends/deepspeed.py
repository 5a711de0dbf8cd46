"""The default backend: a model that DeepSpeed has split over the ranks, driven step by step from rank 0.

Knows nothing of queues, sockets or Ray.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from engine import process_group
from engine.architectures import check_servable
from engine.checkpoint import eos_token_ids, read_config, resolve
from engine.config import EngineConfig, threads_per_rank
from engine.cpu_arithmetic import as_computed
from engine.lifeline import Lifeline, tie
from engine.memory import host_free_bytes, longest_sequence, num_swap_slots
from engine.process_group import World
from engine.protocol import Chunk, EngineCapacity, Sampled
from engine.rank_connections import connect_ranks
from engine.runner import Runner, build_runner, max_model_len
from engine.sharding import load_shard, parameter_bytes
from engine.step import arrange
from engine.step_channel import StepChannel
from engine.step_results import sample_all
from engine.swap_space import SwapSpace
from scheduling.swap_area import BlockCopies

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedRank:
    """One rank, ready for steps."""

    runner: Runner
    capacity: EngineCapacity
    channel: StepChannel
    lifeline: Lifeline
    swap: SwapSpace

    def leave(self) -> None:
        """Ends this rank's part in the group without alarming the others."""
        self.lifeline.release()
        self.channel.close()
        process_group.leave()


class DeepSpeedEngine:
    """Rank 0: implements `InferenceEngine` for all ranks together."""

    def __init__(self, loaded: LoadedRank) -> None:
        self._loaded = loaded

    def capacity(self) -> EngineCapacity:
        return self._loaded.capacity

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        """Runs the chunks on every rank, and samples.

        Raises:
            RuntimeError: another rank is gone; the engine is of no more use.
        """
        if not chunks:
            return []
        arrangement = arrange(chunks, self._loaded.capacity.block_size)
        self._loaded.channel.send(arrangement.step)
        runner = self._loaded.runner
        return sample_all(runner.run(arrangement.step), arrangement.scheduled, runner.search)

    def copy_blocks(self, copies: BlockCopies) -> None:
        """Every rank copies its own part; returns when rank 0's is done.

        Raises:
            RuntimeError: another rank is gone; the engine is of no more use.
        """
        self._loaded.channel.send(copies)
        self._loaded.swap.copy(copies)

    def close(self) -> None:
        """Lets the other ranks go and leaves the group."""
        self._loaded.channel.stop()
        self._loaded.leave()


class FollowingRank:
    """Every other rank: computes what rank 0 sends."""

    def __init__(self, loaded: LoadedRank) -> None:
        self._loaded = loaded

    @property
    def capacity(self) -> EngineCapacity:
        return self._loaded.capacity

    def follow(self) -> None:
        """Returns when rank 0 lets go.

        Raises:
            RuntimeError: another rank is gone.
        """
        while (step := self._loaded.channel.receive()) is not None:
            if isinstance(step, BlockCopies):
                self._loaded.swap.copy(step)
            else:
                self._loaded.runner.run(step)
        self._loaded.leave()


def load_rank(config: EngineConfig, rank: int, master_addr: str, master_port: int) -> LoadedRank:
    """Checks, joins the other ranks, loads and splits the model, and allocates the cache; all ranks must call it.

    Raises:
        CheckpointError: there is no such model, or it cannot be served like this.
        InsufficientMemory: weights or cache do not fit.
        RuntimeError: another rank did not come.
    """
    folder = resolve(config.source)
    check_servable(read_config(folder), config.tensor_parallel_size)
    torch.set_num_threads(threads_per_rank(config))
    world = process_group.join(config, rank, master_addr, master_port)
    lifeline = tie(world, master_addr)
    config = as_computed(config, folder, world)
    model = load_shard(config, folder, world)
    runner = build_runner(model, config, world)
    longest = longest_sequence(config, max_model_len(model, config), runner.cache.num_blocks)
    block_bytes = max(world.gathered(runner.cache.num_bytes // runner.cache.num_blocks))
    swap_slots = min(world.gathered(num_swap_slots(config, longest, block_bytes, host_free_bytes())))
    capacity = EngineCapacity(
        model_name=config.model_name,
        max_num_seqs=config.max_num_seqs,
        max_model_len=longest,
        max_num_batched_tokens=config.max_num_batched_tokens,
        block_size=config.block_size,
        num_blocks=runner.cache.num_blocks,
        vocab_size=model.config.vocab_size,
        model_bytes=world.gathered(parameter_bytes(model)),
        eos_token_ids=eos_token_ids(model),
        num_swap_slots=swap_slots,
        block_bytes=block_bytes,
    )
    _report(capacity, runner, world)
    return LoadedRank(
        runner, capacity, StepChannel(connect_ranks(world, master_addr)), lifeline, SwapSpace(runner.cache, swap_slots)
    )


def _report(capacity: EngineCapacity, runner: Runner, world: World) -> None:
    num_tokens = capacity.num_blocks * capacity.block_size
    _log.info("rank %d: KV cache of %d tokens in %d bytes", world.rank, num_tokens, runner.cache.num_bytes)
    num_swap_tokens = capacity.num_swap_slots * capacity.block_size
    swap_bytes = capacity.num_swap_slots * capacity.block_bytes
    _log.info("rank %d: swap area of %d tokens in %d bytes", world.rank, num_swap_tokens, swap_bytes)
    if world.rank == 0:
        parts = ", ".join(f"rank {rank}: {num_bytes:,}" for rank, num_bytes in enumerate(capacity.model_bytes))
        _log.info("%s: parameter bytes of %s", capacity.model_name, parts)
