"""Owns what a twin is made of: one configuration, on engines of one kind. Decides nothing and reads no file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduling.admission import AdmissionBounds
from scheduling.score import ScorePolicy
from simulation.engine_model import EngineModel, ServiceOverheads
from simulation.objectives import Objectives
from simulation.replica_shape import ReplicaShape
from simulation.scaling import Scaling


@dataclass(frozen=True, slots=True)
class Clients:
    """How those who ask behave.

    max_output_tokens: what each allows its answer; None: no more than it gets in the end.
    deadlines_s: by class, until when the answer must start. max_retries: how often a client that was refused comes back
    at the time that it was told.

    Raises:
        ValueError: a deadline is not a positive finite number, or a count is out of range.
    """

    max_output_tokens: int | None = None
    deadlines_s: Mapping[str, float] = field(default_factory=dict)
    max_retries: int = 0

    def __post_init__(self) -> None:
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            raise ValueError(f"max_output_tokens: expected at least 1, got {self.max_output_tokens!r}")
        for name, deadline_s in self.deadlines_s.items():
            if not 0 < deadline_s < math.inf:
                raise ValueError(f"deadlines_s.{name}: expected a finite number above 0, got {deadline_s!r}")
        if self.max_retries < 0:
            raise ValueError(f"max_retries: expected at least 0, got {self.max_retries!r}")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One configuration to try.

    engine: as it is alone; `overheads` says what serving adds. objectives: by class; a class without one counts every
    answer as good. tenant_weights: those that are not 1.
    num_replicas: at first, and all the time without `scaling`. seed: of what steps take beside their model.

    Raises:
        ValueError: there is no replica.
    """

    name: str
    shape: ReplicaShape
    engine: EngineModel
    policy: ScorePolicy = field(default_factory=ScorePolicy)
    bounds: AdmissionBounds = field(default_factory=AdmissionBounds)
    overheads: ServiceOverheads = field(default_factory=ServiceOverheads)
    clients: Clients = field(default_factory=Clients)
    objectives: Mapping[str, Objectives] = field(default_factory=dict)
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    num_replicas: int = 1
    scaling: Scaling | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = 1 if self.scaling is None else 0
        if self.num_replicas < least:
            raise ValueError(f"num_replicas: expected at least {least}, got {self.num_replicas!r}")
