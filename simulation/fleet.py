"""Owns the replicas of a run: those that serve, that start, that finish what they have; and how long each was there.

Decides neither how many there should be nor what they are given.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from scheduling.preemption import PreemptionCounts
from scheduling.replicas import ReplicaState
from simulation.activity import Activity
from simulation.replica import SimulatedReplica
from simulation.scenario import Scenario
from simulation.step_tape import StepTape


class SimulatedFleet:
    """Replicas of one shape, numbered in the order in which they were started."""

    def __init__(self, scenario: Scenario) -> None:
        self.most = 0  # that were there at a time
        self.serving: dict[str, SimulatedReplica] = {}
        self._leaving: dict[str, SimulatedReplica] = {}
        self._gone: list[SimulatedReplica] = []
        self._since_s: dict[str, float] = {}
        self._past_s = 0.0
        self._shape = scenario.shape
        self._engine = scenario.overheads.slow_down(scenario.engine)
        self._tape = StepTape(self._engine.spread, scenario.seed)
        self._places = random.Random(scenario.seed)

    def __len__(self) -> int:
        """Those that are there, whether they are given more or not."""
        return len(self.serving) + len(self._leaving)

    def __iter__(self) -> Iterator[SimulatedReplica]:
        yield from self.serving.values()
        yield from self._leaving.values()

    def get(self, replica_id: str) -> SimulatedReplica:
        """One that is there."""
        return self.serving.get(replica_id) or self._leaving[replica_id]

    def add(self, since_s: float) -> SimulatedReplica:
        """One more serves. since_s: when its start began."""
        number = len(self._since_s)
        place = self._places.randrange(len(self._tape))
        replica = SimulatedReplica(f"replica-{number:04}", self._shape, self._engine, self._tape, place)
        self._since_s[replica.replica_id] = since_s
        self.serving[replica.replica_id] = replica
        self.most = max(self.most, len(self))
        return replica

    def state(self, replica: SimulatedReplica, started_in_s: float | None = None) -> ReplicaState:
        """What the replica says of itself."""
        shape = self._shape
        return ReplicaState(
            replica.replica_id,
            max_num_seqs=shape.limits.max_num_seqs,
            kv_tokens=shape.kv_tokens,
            max_model_len=min(shape.max_model_len, shape.kv_tokens),
            incarnation=1,
            parked_limit=shape.limits.parked_limit if shape.holds_displaced else 0,
            preemption_margin_levels=shape.limits.preemption_margin_levels,
            started_in_s=started_in_s,
        )

    def let_one_go(self, now_s: float) -> SimulatedReplica:
        """The one with the least to do, the last started where several have as little; it finishes what it has."""
        leaving = min(reversed(self.serving.values()), key=lambda replica: replica.num_held)
        self._leaving[leaving.replica_id] = self.serving.pop(leaving.replica_id)
        self.end_if_done(leaving, now_s)
        return leaving

    def is_leaving(self, replica: SimulatedReplica) -> bool:
        return replica.replica_id in self._leaving

    def end_if_done(self, replica: SimulatedReplica, now_s: float) -> None:
        """One that is leaving is gone when it has nothing left."""
        if self.is_leaving(replica) and not replica.num_held:
            del self._leaving[replica.replica_id]
            self._gone.append(replica)
            self._past_s += now_s - self._since_s[replica.replica_id]

    def replica_s(self, now_s: float) -> float:
        """Time that replicas were there, their starts among it."""
        return self._past_s + sum(now_s - self._since_s[replica.replica_id] for replica in self)

    def activity(self) -> Activity:
        """Of all, those that are gone among them."""
        total = Activity()
        for replica in (*self, *self._gone):
            total.add(replica.activity)
        return total

    def preemptions(self) -> PreemptionCounts:
        """Likewise."""
        counts = [replica.preemptions for replica in (*self, *self._gone)]
        return PreemptionCounts(
            num_by_swap=sum(each.num_by_swap for each in counts),
            num_by_recompute=sum(each.num_by_recompute for each in counts),
            num_recomputed_tokens=sum(each.num_recomputed_tokens for each in counts),
            num_blocks_out=sum(each.num_blocks_out for each in counts),
            num_blocks_in=sum(each.num_blocks_in for each in counts),
        )
