"""Owns bundle arithmetic: what a replica and its ranks reserve together. Knows nothing of models or Serve."""

from __future__ import annotations

from dataclasses import dataclass

Bundle = dict[str, float]


@dataclass(frozen=True, slots=True)
class ReplicaResources:
    """What one replica reserves: itself, and each of its ranks.

    replica_num_cpus and rank_num_cpus are Ray's logical CPUs; they place work and do not confine it.
    """

    num_ranks: int
    replica_num_cpus: float
    rank_num_cpus: float
    rank_num_gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.num_ranks < 1:
            raise ValueError(f"num_ranks: expected at least 1, got {self.num_ranks}")
        for name in ("replica_num_cpus", "rank_num_cpus", "rank_num_gpus"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")

    def bundles(self) -> list[Bundle]:
        """Bundle 0 holds the replica actor, bundle 1 + r holds rank r."""
        rank: Bundle = {"CPU": self.rank_num_cpus}
        if self.rank_num_gpus:
            rank["GPU"] = self.rank_num_gpus
        return [{"CPU": self.replica_num_cpus}, *(dict(rank) for _ in range(self.num_ranks))]

    @property
    def strategy(self) -> str:
        """Rank 0 and the replica speak over a Unix socket and ranks share memory: one node holds them all."""
        return "STRICT_PACK"


def bundle_index_of_rank(rank: int) -> int:
    """The bundle that `ReplicaResources.bundles` reserves for a rank."""
    return rank + 1
