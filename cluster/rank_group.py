"""Starts, watches and ends N rank actors as one unit: one dies, all go. Knows Ray; knows nothing of models.

A rank is any class with `load(master_addr, master_port)` and `run(socket_path)`. Rank actors are children of the
replica that makes the group, so Ray ends them when the replica dies, however it dies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.placement import Bundle, bundle_index_of_rank

logger = logging.getLogger("ray.serve")

LOAD_TIMEOUT_S = 1800.0
PROBE_EVERY_S = 1.0
SILENT_S = 3.0  # a rank that answers neither of two probes for so long is stopped, or cut off: it counts as dead
LOOPBACK = (
    "127.0.0.1"  # the placement group is strictly packed: all ranks share a node, and nobody else need reach them
)


class RankFailed(Exception):
    """A rank ended, so its group is gone. The replica should fail what is in flight and exit."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(f"rank {rank} ended: {reason}")
        self.rank = rank
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rank, self.reason)


@dataclass(frozen=True, slots=True)
class RankPlacement:
    """Where the ranks run: `bundles[1 + r]` of the placement group is rank r's."""

    placement_group: PlacementGroup
    bundles: list[Bundle]

    def options(self, rank: int) -> dict[str, Any]:
        """Ray actor options of one rank."""
        index = bundle_index_of_rank(rank)
        return {
            "num_cpus": self.bundles[index].get("CPU", 0),
            "num_gpus": self.bundles[index].get("GPU", 0),
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self.placement_group, index),
        }


class RankGroup:
    """N rank actors with one fate."""

    def __init__(self, rank_class: type, num_ranks: int, env: dict[str, str], placement: RankPlacement | None) -> None:
        self._rank_class = rank_class
        self._num_ranks = num_ranks
        self._env = env
        self._placement = placement
        self._ranks: list[Any] = []
        self.pids: list[int] = []  # of the ranks' processes, which run on this host
        self._runs: dict[Any, int] = {}

    async def load(self, *init_args: Any) -> Any:
        """Start every rank with `rank_class(*init_args, rank)` and load them together; returns what rank 0 reports.

        Raises:
            RankFailed: a rank raised or died while loading; the others have been ended.
            TimeoutError: loading took longer than `LOAD_TIMEOUT_S`; all have been ended.
        """
        self._ranks = [self._start(rank, init_args) for rank in range(self._num_ranks)]
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                self.pids = await self._all({rank.answer.remote(): index for index, rank in enumerate(self._ranks)})
                port = await _result(self._ranks[0].free_port.remote(), rank=0)
                loads = {rank.load.remote(LOOPBACK, port): index for index, rank in enumerate(self._ranks)}
                return (await self._all(loads))[0]
        except BaseException:
            self.kill()
            raise

    def run(self, socket_path: str) -> None:
        """Set every rank to work; `watch` tells when one stops."""
        self._runs = {rank.run.remote(socket_path): index for index, rank in enumerate(self._ranks)}

    async def watch(self) -> RankFailed:
        """Wait until a rank ends or falls silent, for whatever reason, then end them all."""
        futures = {asyncio.ensure_future(_outcome(ref)): index for ref, index in self._runs.items()}
        futures |= {asyncio.ensure_future(_silence(rank)): index for index, rank in enumerate(self._ranks)}
        done, pending = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        for future in pending:
            future.cancel()
        self.kill()
        first = next(iter(done))
        return RankFailed(futures[first], first.result())

    def kill(self) -> None:
        """End every rank at once. A rank may hang in a collective, so none is asked politely."""
        for rank in self._ranks:
            ray.kill(rank, no_restart=True)
        self._ranks = []

    def _start(self, rank: int, init_args: tuple[Any, ...]) -> Any:
        options = {} if self._placement is None else self._placement.options(rank)
        remote_class: Any = ray.remote(_with_port_finder(self._rank_class))
        env = {**self._env, "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(self._num_ranks)}
        return remote_class.options(max_restarts=0, max_concurrency=2, runtime_env={"env_vars": env}, **options).remote(
            *init_args, rank
        )

    async def _all(self, refs: dict[Any, int]) -> list[Any]:
        """Every result in rank order, or the first failure."""
        tasks = {asyncio.ensure_future(_result(ref, rank)): rank for ref, rank in refs.items()}
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in pending:
            task.cancel()
        by_rank = {tasks[task]: task.result() for task in done}
        return [by_rank[rank] for rank in sorted(by_rank)]


async def _result(ref: Any, rank: int) -> Any:
    try:
        return await ref
    except ray.exceptions.RayError as error:
        raise RankFailed(rank, str(error)) from error


async def _outcome(ref: Any) -> str:
    try:
        await ref
    except ray.exceptions.RayError as error:
        return str(error)
    return "it returned"


async def _silence(rank: Any) -> str:
    """Ends when the rank does not answer: a process that is stopped never ends. Each probe is asked twice, so that one
    that is lost on the way does not end a rank that is well."""
    while True:
        await asyncio.sleep(PROBE_EVERY_S)
        probes = [asyncio.ensure_future(_outcome(rank.answer.remote()))]
        done, _ = await asyncio.wait(probes, timeout=SILENT_S / 2)
        if not done:
            probes.append(asyncio.ensure_future(_outcome(rank.answer.remote())))
            done, _ = await asyncio.wait(probes, timeout=SILENT_S / 2, return_when=asyncio.FIRST_COMPLETED)
        for probe in probes:
            probe.cancel()
        if not done:
            return f"it has not answered for {SILENT_S:g} s"


def _with_port_finder(rank_class: type) -> type:
    """The rank class plus what its group needs: a free port, and word of its health."""

    class RankActor(rank_class):  # type: ignore[misc]
        def answer(self) -> int:
            """Its process id, beside whatever runs."""
            return os.getpid()

        def free_port(self) -> int:
            with socket.socket() as probe:
                probe.bind((LOOPBACK, 0))
                port: int = probe.getsockname()[1]
                return port

    RankActor.__name__ = RankActor.__qualname__ = rank_class.__name__
    return RankActor
