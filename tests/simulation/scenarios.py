"""Builds small twins whose figures can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from scheduling.batch_plan import BatchLimits, Preemption
from scheduling.cost_model import StepCostModel
from simulation.engine_model import EngineModel
from simulation.outcome import Ended
from simulation.replica_shape import ReplicaShape
from simulation.scenario import Scenario
from simulation.traffic import OpenLoop, Traffic
from simulation.twin import Twin
from simulation.workload import Arrival

#: A step of decodes takes a second, and each token of a prompt a tenth more.
ENGINE = EngineModel(StepCostModel(base_s=1.0, prefill_token_s=0.1))


def make_shape(
    *,
    max_num_seqs: int = 4,
    num_blocks: int = 64,
    max_num_batched_tokens: int = 64,
    preemption: Preemption = "auto",
    parked_limit: int = 8,
    **fields: Any,
) -> ReplicaShape:
    """Blocks hold four tokens."""
    limits = BatchLimits(max_num_seqs, max_num_batched_tokens, parked_limit=parked_limit, preemption=preemption)
    return ReplicaShape(limits, num_blocks, block_size=4, **fields)


def make_scenario(**fields: Any) -> Scenario:
    return replace(Scenario("here", make_shape(), ENGINE), **fields)


def arrival(
    at_s: float = 0.0,
    num_prompt_tokens: int = 10,
    num_output_tokens: int = 3,
    *,
    priority: float = 0,
    service_class: str = "standard",
    tenant: str = "default",
) -> Arrival:
    return Arrival(at_s, num_prompt_tokens, num_output_tokens, priority, service_class, tenant)


def play(scenario: Scenario, arrivals: Iterable[Arrival] | Traffic) -> list[Ended]:
    """Every end, in order."""
    ended: list[Ended] = []
    traffic = arrivals if isinstance(arrivals, OpenLoop) or hasattr(arrivals, "next_of") else OpenLoop(arrivals)
    Twin(scenario, traffic, ended.append).run()
    return ended
