"""Owns what Ray Serve's own fields may say of our deployments, beyond what Serve checks. Knows nothing of our settings.

Serve takes these values without a word and fails at the start with them, or runs something else than was designed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ServeDeploySchema

from deployments.problems import Problem, insides_withheld, problems_of

MAX_PORT = 65_535
REPLICA_BUNDLE_CPUS = 0.1  # logical CPUs that a model's replica reserves for itself, beside those of its ranks

_ADMISSION = "none: the queue admits, and its bounds are user_config.bounds"
_SET_FOR_ALL = {
    "max_ongoing_requests": _ADMISSION,
    "max_queued_requests": _ADMISSION,
    "backpressure_config": _ADMISSION,
    "deployment_actors": "none: the queue and the metrics hub stand there",
    "gang_scheduling_config": "none: a replica's ranks are not replicas of Serve",
}
_RANKS = "none: the ranks decide what a replica reserves and where"
_SET_FOR_MODELS = {
    **_SET_FOR_ALL,
    "request_router_config": "none: a model's router asks its queue",
    "placement_group_bundles": _RANKS,
    "placement_group_strategy": _RANKS,
    "placement_group_bundle_label_selector": _RANKS,
    "max_replicas_per_node": _RANKS,
}
_NOT_IN_BUNDLE = ("num_gpus", "memory", "resources", "accelerator_type")


def shape_problems(document: dict[str, Any]) -> Iterator[Problem]:
    """What Serve's own checks would break on: a list or an entry that is something else."""
    applications = document.get("applications")
    if not isinstance(applications, list):
        yield Problem("applications", "missing" if applications is None else "invalid", applications, "a list")
        return
    for place, application in enumerate(applications):
        path = f"applications[{place}]"
        if not isinstance(application, dict):
            yield Problem(path, "invalid", application, "an object")
        elif isinstance(deployments := application.get("deployments", []), list):
            for at, fields in enumerate(deployments):
                if not isinstance(fields, dict):
                    yield Problem(f"{path}.deployments[{at}]", "invalid", fields, "an object")
                else:
                    yield from _policy_problems(f"{path}.deployments[{at}].autoscaling_config", fields)


def http_problems(schema: ServeDeploySchema) -> Iterator[Problem]:
    if not 1 <= (port := schema.http_options.port) <= MAX_PORT:
        yield Problem("http_options.port", "invalid", port, f"a port from 1 to {MAX_PORT}")


def deployment_problems(path: str, fields: dict[str, Any], *, is_model: bool) -> Iterator[Problem]:
    """Of one entry in `deployments`, which stands at `path`."""
    for name, expected in (_SET_FOR_MODELS if is_model else _SET_FOR_ALL).items():
        if fields.get(name) is not None:
            yield Problem(f"{path}.{name}", "invalid", fields[name], expected)
    yield from _autoscaling_problems(f"{path}.autoscaling_config", fields)
    if is_model and "ray_actor_options" in fields:
        yield from _actor_problems(f"{path}.ray_actor_options", fields["ray_actor_options"])


def refused_fields() -> list[str]:
    """The fields of Serve's that some deployment of ours may not set."""
    return [*_SET_FOR_MODELS, *_NOT_IN_BUNDLE]


def max_replicas(fields: dict[str, Any]) -> int:
    """How many replicas an entry without problems allows."""
    if isinstance(fields.get("num_replicas"), int):
        return int(fields["num_replicas"])
    wanted = _autoscaling(fields)
    return 1 if wanted is None else AutoscalingConfig(**wanted).max_replicas


def _autoscaling(fields: dict[str, Any]) -> dict[str, Any] | None:
    """The settings that Serve makes of an entry; None where it does not scale."""
    given = fields.get("autoscaling_config")
    if fields.get("num_replicas") == "auto":
        return {**AutoscalingConfig.default().model_dump(), **(given or {})}
    return None if given is None else dict(given)


def _autoscaling_problems(path: str, fields: dict[str, Any]) -> list[Problem]:
    wanted = _autoscaling(fields)
    if wanted is None:
        return []
    try:
        AutoscalingConfig.model_validate(wanted)
    except ValidationError as error:
        return problems_of(error, AutoscalingConfig, path, insides_withheld)
    return []


def _policy_problems(path: str, fields: dict[str, Any]) -> Iterator[Problem]:
    """Serve imports a policy to check it, and says nothing of where it stands when that fails."""
    autoscaling = fields.get("autoscaling_config")
    policy = autoscaling.get("policy") if isinstance(autoscaling, dict) else None
    named = policy.get("policy_function") if isinstance(policy, dict) else None
    if not isinstance(named, str):
        return
    try:
        AutoscalingPolicy(policy_function=named)
    except (ImportError, AttributeError, ValueError) as error:
        yield Problem(
            f"{path}.policy.policy_function", "invalid", named, f"module:class that can be imported ({error})"
        )


def _actor_problems(path: str, options: dict[str, Any]) -> Iterator[Problem]:
    """The replica's actor has to fit into its own bundle, or it is never placed. Ray takes 1 CPU where none is said."""
    num_cpus = options.get("num_cpus")
    expected = f"at most {REPLICA_BUNDLE_CPUS:g}: the ranks reserve their own, with rank_num_cpus in args.models[]"
    if num_cpus is None:
        yield Problem(f"{path}.num_cpus", "missing", None, expected)
    elif num_cpus > REPLICA_BUNDLE_CPUS:
        yield Problem(f"{path}.num_cpus", "invalid", num_cpus, expected)
    for name in _NOT_IN_BUNDLE:
        if options.get(name):
            yield Problem(f"{path}.{name}", "invalid", options[name], _RANKS)
