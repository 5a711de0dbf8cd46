"""Owns how many replicas a run should have, as the service's own policy decides it. Starts and ends none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scheduling.autoscaling import Autoscaler, ScalingLimits
from scheduling.load import ClassObjective, LoadMeter
from scheduling.snapshot import QueueSnapshot


@dataclass(frozen=True, slots=True)
class Scaling:
    """limits: as the operator has set them. objectives: by class. startup_s: what a replica takes to start."""

    limits: ScalingLimits
    objectives: Mapping[str, ClassObjective] = field(default_factory=dict)
    startup_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.startup_s < float("inf"):
            raise ValueError(f"startup_s: expected a finite number of at least 0, got {self.startup_s!r}")


class Scaler:
    """Looks at the queue once a second, as the thread in Serve's controller does."""

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling
        self._meter = LoadMeter()
        self._autoscaler = Autoscaler(scaling.limits)

    def num_wanted(self, snapshot: QueueSnapshot, num_starting: int, now_s: float) -> int:
        """How many replicas there should be. The last one stays while anybody is there."""
        load = self._meter.read(snapshot, self._scaling.objectives, now_s)
        decision = self._autoscaler.decide(replace(load, num_starting=num_starting), now_s)
        is_busy = bool(snapshot.waiting or snapshot.running)
        return max(decision.num_replicas, 1) if is_busy else decision.num_replicas
