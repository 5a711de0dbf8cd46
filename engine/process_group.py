"""Owns how the ranks of one replica find and hear each other. Knows nothing of models or steps.

Two groups: the default one carries the all-reduces inside a step (nccl on CUDA; gloo or shared memory on CPU) and gives
up on a silent peer; the other is gloo, for what the ranks tell each other while they load.
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from engine import shared_memory
from engine.config import EngineConfig

#: A peer that does not answer inside a step for this long is taken for dead.
COLLECTIVE_TIMEOUT = timedelta(minutes=5)
#: The ranks wait for the one that loads the longest.
LOAD_TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class World:
    """This rank's place among the ranks of its replica. `loading`: the group over which they agree."""

    rank: int
    size: int
    device: torch.device
    loading: dist.ProcessGroup

    def gathered(self, value: int) -> list[int]:
        """Every rank's value, by rank. All ranks must call it."""
        values = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(values, torch.tensor([value], dtype=torch.int64), group=self.loading)
        return [int(value) for value in values]


def join(config: EngineConfig, rank: int, master_addr: str, master_port: int) -> World:
    """Meets the other ranks at `master_addr:master_port`, which must be this replica's alone, and starts DeepSpeed.

    Returns when every rank has come. One process can be in one world.
    """
    size = config.tensor_parallel_size
    _set_environment(config, rank, master_addr, master_port)
    dist.init_process_group(
        backend="nccl" if config.device == "cuda" else "gloo",
        init_method=f"tcp://{master_addr}:{master_port}",
        rank=rank,
        world_size=size,
        timeout=COLLECTIVE_TIMEOUT,
    )
    loading = dist.new_group(backend="gloo", timeout=LOAD_TIMEOUT)
    world = World(rank, size, _device(config), loading)
    _start_deepspeed(config, world, master_addr, master_port)
    return world


def leave() -> None:
    """Ends the groups; the peers' pending calls fail."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _set_environment(config: EngineConfig, rank: int, master_addr: str, master_port: int) -> None:
    """DeepSpeed reads its place from here. LOCAL_RANK is 0: every actor sees one device, its own."""
    os.environ.update(
        MASTER_ADDR=master_addr,
        MASTER_PORT=str(master_port),
        RANK=str(rank),
        WORLD_SIZE=str(config.tensor_parallel_size),
        LOCAL_SIZE=str(config.tensor_parallel_size),
        LOCAL_RANK="0",
        DS_ACCELERATOR=config.device,
    )


def _device(config: EngineConfig) -> torch.device:
    return torch.device("cuda", 0) if config.device == "cuda" else torch.device("cpu")


def _start_deepspeed(config: EngineConfig, world: World, master_addr: str, master_port: int) -> None:
    import deepspeed

    shared_memory.allow_operation(_all_can_share(config, world))
    shared_memory.unlink_segment(master_addr, master_port, world.rank)  # one that a dead replica left at this port
    dist.barrier(group=world.loading)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that it has loaded the operation
            deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        dist.barrier(group=world.loading)
    finally:
        shared_memory.unlink_segment(master_addr, master_port, world.rank)


def _all_can_share(config: EngineConfig, world: World) -> bool:
    """Every rank must take the same way, or they wait for each other for ever."""
    if config.device != "cpu" or world.size == 1:
        return False
    on_one_machine = len(set(world.gathered(shared_memory.memory_identity()))) == 1
    return on_one_machine and all(world.gathered(int(shared_memory.can_use_shared_memory(world.size))))
