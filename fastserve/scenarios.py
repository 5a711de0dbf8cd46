"""Turns a configuration file, as it is or changed, into a scenario for the twin. Plays nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.config import IngressUserConfig, ModelConfig
from deployments.config_errors import ConfigError
from deployments.problems import Problem
from deployments.serve_config import ValidatedServeConfig, load_serve_config
from fastserve.costs_file import Costs, HeldByEngine
from fastserve.what_if import WhatIf, load_changed, our_application
from scheduling.admission import AdmissionBounds
from scheduling.batch_plan import BatchLimits
from simulation.objectives import Objectives
from simulation.replica_shape import ReplicaShape
from simulation.scenario import Clients, Scenario


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is the same whatever is configured. model: a file's first unless given. seed: of what steps take beside
    their costs."""

    costs: Costs
    clients: Clients
    objectives: Mapping[str, Objectives]
    model: str | None
    seed: int


def load_scenario(path: Path, what_if: WhatIf | None, given: Circumstances) -> Scenario:
    """The file's configuration of one model, on engines that cost what was measured.

    Raises:
        ConfigError: the file or a change is wrong, in the service's own words, or there is no such model.
    """
    config = load_serve_config(path)
    model = chosen_model(config, given.model)
    if what_if is not None:
        config = load_changed(path, what_if, model.name)
        model = chosen_model(config, model.name)
    return Scenario(
        name=path.name if what_if is None else what_if.name,
        shape=_shape(model, given.costs.holds),
        engine=given.costs.engine,
        policy=config.user_config.score_policy(),
        bounds=_bounds(config.user_config),
        overheads=given.costs.overheads,
        clients=given.clients,
        objectives=given.objectives,
        tenant_weights=config.user_config.tenant_weights(),
        num_replicas=_num_replicas(config, model.name),
        seed=given.seed,
    )


def _shape(model: ModelConfig, holds: HeldByEngine) -> ReplicaShape:
    """What the file leaves open is as it was in the measured engine."""
    limits = BatchLimits(
        max_num_seqs=model.max_num_seqs,
        max_num_batched_tokens=model.max_num_batched_tokens,
        parked_limit=model.parked_limit,
        preemption_margin_levels=model.preemption_margin_levels,
        preemption=model.preemption,
        max_decode_stretch=model.max_decode_stretch,
    )
    return ReplicaShape(
        limits,
        num_blocks=-(-(model.kv_cache_tokens or holds.num_blocks * holds.block_size) // model.block_size),
        block_size=model.block_size,
        num_swap_slots=_swap_tokens(model, holds) // model.block_size,
        max_model_len=model.longest_sequence(holds.max_model_len),
        reuse_prefix=model.prefix_caching,
    )


def _swap_tokens(model: ModelConfig, holds: HeldByEngine) -> int:
    if model.preemption not in ("auto", "swap"):
        return 0
    return holds.num_swap_slots * holds.block_size if model.swap_space_tokens is None else model.swap_space_tokens


def _bounds(user_config: IngressUserConfig) -> AdmissionBounds:
    bounds = user_config.bounds
    return AdmissionBounds(
        max_waiting=bounds.max_waiting,
        max_waiting_tokens=bounds.max_waiting_tokens,
        max_retry_after_s=bounds.max_predicted_wait_s,
    )


def _num_replicas(config: ValidatedServeConfig, model: str) -> int:
    """As many as there are at first: the twin does not scale them."""
    deployments = our_application(config.document).get("deployments") or []
    fields: dict[str, Any] = next((each for each in deployments if each["name"] == model), {})
    scaling = fields.get("autoscaling_config") or {}
    number = fields.get("num_replicas", scaling.get("initial_replicas", scaling.get("min_replicas")))
    return max(1, number) if isinstance(number, int) else 1


def chosen_model(config: ValidatedServeConfig, name: str | None) -> ModelConfig:
    """The first where no name is given.

    Raises:
        ConfigError: the file has no such model.
    """
    models = {model.name: model for model in config.serving.models}
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise ConfigError([Problem("--model", "invalid", name, f"one of {', '.join(models)}")])
    return models[name]
