"""Turns a configuration file, as it is or changed, into a scenario for the twin. Plays nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployments.config import ModelConfig
from deployments.config_errors import ConfigError
from deployments.problems import Problem
from deployments.scaling_settings import POLICY_FUNCTIONS, ScalingSettings
from deployments.serve_config import ValidatedServeConfig, load_serve_config
from fastserve.costs_file import Costs, HeldByEngine
from fastserve.what_if import WhatIf, load_changed, our_application
from scheduling.batch_plan import BatchLimits
from scheduling.load import ClassObjective
from simulation.objectives import Objectives
from simulation.replica_shape import ReplicaShape
from simulation.scaling import Scaling
from simulation.scenario import Clients, Scenario


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is the same whatever is configured.

    model: a file's first unless given. startup_s: what a replica takes to start. seed: of what steps take beside their
    costs.
    """

    costs: Costs
    clients: Clients
    objectives: Mapping[str, Objectives]
    model: str | None
    startup_s: float
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
    scaling = _scaling(config, model.name, given.startup_s)
    return Scenario(
        name=path.name if what_if is None else what_if.name,
        shape=replica_shape(model, given.costs.holds),
        engine=given.costs.engine,
        policy=config.user_config.score_policy(),
        bounds=config.user_config.admission_bounds(),
        overheads=given.costs.overheads,
        clients=given.clients,
        objectives=given.objectives,
        tenant_weights=config.user_config.tenant_weights(),
        num_replicas=max(_num_replicas(config, model.name), 0 if scaling else 1),
        scaling=scaling,
        seed=given.seed,
    )


def replica_shape(model: ModelConfig, holds: HeldByEngine) -> ReplicaShape:
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


def _scaling(config: ValidatedServeConfig, model: str, startup_s: float) -> Scaling | None:
    """By our own policy; None where the file does not name it: then there are as many replicas as at first."""
    autoscaling = _deployment(config, model).get("autoscaling_config") or {}
    policy = autoscaling.get("policy") or {}
    if policy.get("policy_function") not in POLICY_FUNCTIONS:
        return None
    limits = replace(
        ScalingSettings.model_validate(policy.get("policy_kwargs") or {}).limits(),
        min_replicas=autoscaling.get("min_replicas", 1),
        max_replicas=autoscaling.get("max_replicas", 1),
    )
    classes = config.user_config.classes
    objectives = {name: ClassObjective(each.min_priority, each.ttft_s) for name, each in classes.items()}
    return Scaling(limits, objectives, startup_s)


def _num_replicas(config: ValidatedServeConfig, model: str) -> int:
    """As many as there are at first."""
    fields = _deployment(config, model)
    scaling = fields.get("autoscaling_config") or {}
    number = fields.get("num_replicas", scaling.get("initial_replicas", scaling.get("min_replicas")))
    return number if isinstance(number, int) else 1


def _deployment(config: ValidatedServeConfig, model: str) -> dict[str, Any]:
    """What the file says of how the model is deployed."""
    deployments = our_application(config.document).get("deployments") or []
    fields: dict[str, Any] = next((each for each in deployments if each["name"] == model), {})
    return fields


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
