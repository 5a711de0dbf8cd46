"""Tests that Ray gives every rank actor a GPU of its own, which the rank knows as device 0."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group

from cluster.placement import ReplicaResources
from cluster.rank_group import RankGroup, RankPlacement

pytestmark = [pytest.mark.gpu(2), pytest.mark.service]


@dataclass(frozen=True, slots=True)
class Sight:
    """What a rank finds around it. device: the identity of its device 0."""

    local_rank: str
    num_devices: int
    device: str


class SeeingRank:
    """Loads nothing and looks around."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def load(self, master_addr: str, master_port: int) -> int:
        return self._rank

    def run(self, socket_path: str) -> None:
        threading.Event().wait()

    def sight(self) -> Sight:
        identity = str(torch.cuda.get_device_properties(0).uuid)
        return Sight(os.environ["LOCAL_RANK"], torch.cuda.device_count(), identity)


@pytest.fixture
def placement(monkeypatch: pytest.MonkeyPatch) -> Iterator[RankPlacement]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # unset, Ray sets it for this process and all that it starts later
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    bundles = ReplicaResources(num_ranks=2, replica_num_cpus=0.1, rank_num_cpus=0.3, rank_num_gpus=1).bundles()
    group = placement_group(bundles, strategy="STRICT_PACK")
    ray.get(group.ready(), timeout=30)
    yield RankPlacement(group, bundles)
    remove_placement_group(group)
    ray.shutdown()


async def test_each_rank_has_local_rank_0_and_another_gpu(placement: RankPlacement) -> None:
    group = RankGroup(SeeingRank, 2, {}, placement)
    try:
        await group.load()
        first, second = [await rank.sight.remote() for rank in group._ranks]
    finally:
        group.kill()

    assert (first.local_rank, first.num_devices) == (second.local_rank, second.num_devices) == ("0", 1)
    assert first.device != second.device
