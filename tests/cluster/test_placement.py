"""Bundle arithmetic."""

from __future__ import annotations

import pytest

from cluster.placement import ReplicaResources, bundle_index_of_rank


def test_bundle_zero_holds_the_replica_and_every_rank_has_its_own() -> None:
    resources = ReplicaResources(num_ranks=2, replica_num_cpus=0.1, rank_num_cpus=0.3)

    assert resources.bundles() == [{"CPU": 0.1}, {"CPU": 0.3}, {"CPU": 0.3}]
    assert [bundle_index_of_rank(rank) for rank in range(2)] == [1, 2]


def test_on_gpus_each_rank_reserves_one_and_the_replica_none() -> None:
    bundles = ReplicaResources(num_ranks=8, replica_num_cpus=1, rank_num_cpus=1, rank_num_gpus=1).bundles()

    assert "GPU" not in bundles[0]
    assert [bundle["GPU"] for bundle in bundles[1:]] == [1] * 8


def test_changing_one_rank_s_bundle_leaves_the_others_alone() -> None:
    bundles = ReplicaResources(num_ranks=2, replica_num_cpus=0.1, rank_num_cpus=0.3).bundles()

    bundles[1]["CPU"] = 9

    assert bundles[2]["CPU"] == 0.3


@pytest.mark.parametrize(
    ("field", "value"), [("num_ranks", 0), ("replica_num_cpus", -1), ("rank_num_cpus", -0.1), ("rank_num_gpus", -1)]
)
def test_impossible_resources_are_refused_by_name(field: str, value: float) -> None:
    arguments = {"num_ranks": 1, "replica_num_cpus": 0.1, "rank_num_cpus": 0.3, field: value}

    with pytest.raises(ValueError, match=field):
        ReplicaResources(**arguments)  # type: ignore[arg-type]
