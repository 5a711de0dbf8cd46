"""N rank actors with one fate, on a real Ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from cluster.placement import ReplicaResources
from cluster.rank_group import RankFailed, RankGroup, RankPlacement
from deployments.app import replica_resources
from deployments.config import ModelConfig
from deployments.serve_config import load_serve_config

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]

STARTS_WITHIN_S = 120
ENDS_WITHIN_S = 10
GPU_CONFIG = Path(__file__).parents[2] / "serve_config.gpu.yaml"


class ToyRank:
    """Loads by saying where it is, and works until it is ended."""

    def __init__(self, fails_to_load: bool, rank: int) -> None:
        self._fails_to_load = fails_to_load
        self._rank = rank

    def load(self, master_addr: str, master_port: int) -> dict[str, Any]:
        if self._fails_to_load and self._rank == 1:
            raise RuntimeError("rank 1 cannot load")
        gpus = ray.get_gpu_ids()
        return {
            "pid": os.getpid(),
            "address": (master_addr, master_port),
            "gpus": gpus,
            "env": os.environ["LOCAL_RANK"],
        }

    def run(self, socket_path: str) -> None:
        if socket_path == "return at once":
            return
        threading.Event().wait()


@pytest.fixture
def placement(ray_cluster: None) -> Iterator[RankPlacement]:
    bundles = ReplicaResources(num_ranks=2, replica_num_cpus=0.1, rank_num_cpus=0.3, rank_num_gpus=1).bundles()
    group = placement_group(bundles, strategy="STRICT_PACK")
    ray.get(group.ready(), timeout=STARTS_WITHIN_S)
    yield RankPlacement(group, bundles)
    remove_placement_group(group)


class PidRank(ToyRank):
    """Also tells its process id once it runs."""

    def pid(self) -> int:
        return os.getpid()


async def wait_for_end(pids: list[int]) -> None:
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, ENDS_WITHIN_S)
    assert not alive


async def started(placement: RankPlacement, socket_path: str = "socket") -> tuple[RankGroup, list[int]]:
    group = RankGroup(PidRank, 2, {}, placement)
    await group.load(False)
    group.run(socket_path)
    pids = [await rank.pid.remote() for rank in group._ranks]
    return group, pids


async def test_loading_reports_what_rank_0_said_and_gives_each_rank_one_gpu(placement: RankPlacement) -> None:
    group = RankGroup(ToyRank, 2, {}, placement)
    try:
        report = await group.load(False)
    finally:
        group.kill()

    assert len(report["gpus"]) == 1
    assert report["env"] == "0"
    assert report["address"][1] > 0


async def test_killing_one_rank_ends_the_other_and_wakes_the_watcher(placement: RankPlacement) -> None:
    group, pids = await started(placement)
    watch = asyncio.create_task(group.watch())

    os.kill(pids[1], signal.SIGKILL)
    failure = await asyncio.wait_for(watch, ENDS_WITHIN_S)

    assert isinstance(failure, RankFailed)
    await wait_for_end(pids)


async def test_a_rank_that_returns_counts_as_ended(placement: RankPlacement) -> None:
    group = RankGroup(ToyRank, 2, {}, placement)
    await group.load(False)
    group.run("return at once")

    failure = await asyncio.wait_for(group.watch(), ENDS_WITHIN_S)

    assert "returned" in failure.reason


async def test_a_rank_that_cannot_load_fails_the_group_by_number(placement: RankPlacement) -> None:
    group = RankGroup(ToyRank, 2, {}, placement)

    with pytest.raises(RankFailed, match="rank 1 cannot load") as failed:
        await asyncio.wait_for(group.load(True), STARTS_WITHIN_S)

    assert failed.value.rank == 1


@pytest.mark.parametrize("model", load_serve_config(GPU_CONFIG).serving.models, ids=lambda model: model.name)
def test_the_shipped_gpu_models_each_place_on_a_node_with_eight_gpus(ray_cluster: None, model: ModelConfig) -> None:
    resources = replica_resources(model, on_gpu=True)
    group = placement_group(resources.bundles(), strategy=resources.strategy)
    try:
        ray.get(group.ready(), timeout=STARTS_WITHIN_S)
        nodes = ray.util.placement_group_table(group)["bundles_to_node_id"]
        assert len(nodes) == 1 + model.tensor_parallel_size
        assert len(set(nodes.values())) == 1
    finally:
        remove_placement_group(group)


async def test_a_rank_that_is_stopped_counts_as_dead(placement: RankPlacement) -> None:
    group, pids = await started(placement)
    watch = asyncio.create_task(group.watch())

    os.kill(pids[1], signal.SIGSTOP)
    failed = await asyncio.wait_for(watch, ENDS_WITHIN_S)
    assert (failed.rank, "has not answered" in failed.reason) == (1, True)
    await wait_for_end(pids)
