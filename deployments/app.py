"""Builds the Ray Serve application from `applications[].args`. The wiring diagram: everything else is handed its parts.

No `from __future__ import annotations` here: Serve reads the class of `build`'s parameter to validate `args`.
"""

from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import DeploymentActorConfig, RequestRouterConfig

from cluster.placement import ReplicaResources
from deployments.config import ModelConfig, ServingConfig
from deployments.deployment_actors import METRICS_HUB, QUEUE
from deployments.ingress_replica import IngressReplica
from deployments.queueing.actor import PriorityQueue
from deployments.replica import ModelReplica
from deployments.router import PriorityRouter
from deployments.telemetry.metrics_hub import MetricsHub
from deployments.user_config import INGRESS_NAME

REPLICA_NUM_CPUS = 0.1
MODEL_SHUTDOWN_S = 120.0  # an answer that takes longer goes on with another replica
INGRESS_SHUTDOWN_S = 600.0  # with an ingress its connections end, so it waits for the last answer
#: A process that is stopped is ended by those beside it; where none of them is left, by Serve, after three of these.
SILENCE_S = 10.0
INGRESS_MAX_ONGOING = 100_000  # admission is the queue's: Serve's own limit in front of it must never be the first


def build(args: ServingConfig) -> Application:
    """The application: one deployment for each model, each with its queue, behind one ingress."""
    has_gpu = ray.cluster_resources().get("GPU", 0) > 0
    models = {model.name: _model_deployment(model, has_gpu) for model in args.models}
    ingress = serve.deployment(
        name=INGRESS_NAME,
        max_ongoing_requests=INGRESS_MAX_ONGOING,
        ray_actor_options={"num_cpus": REPLICA_NUM_CPUS},
        deployment_actors=[_deployment_actor(METRICS_HUB, MetricsHub)],
        health_check_period_s=1,
        health_check_timeout_s=SILENCE_S,
        graceful_shutdown_timeout_s=INGRESS_SHUTDOWN_S,
    )(IngressReplica)
    return ingress.bind(args, models)


def _model_deployment(model: ModelConfig, has_gpu: bool) -> Application:
    config = model.to_engine_config(has_gpu=has_gpu)
    resources = replica_resources(model, on_gpu=config.device == "cuda")
    deployment = serve.deployment(
        name=model.name,
        max_ongoing_requests=max_ongoing_requests(model),
        ray_actor_options={"num_cpus": REPLICA_NUM_CPUS},
        placement_group_bundles=resources.bundles(),
        placement_group_strategy=resources.strategy,
        request_router_config=RequestRouterConfig(request_router_class=PriorityRouter),  # type: ignore[arg-type]
        deployment_actors=[_deployment_actor(QUEUE, PriorityQueue)],
        health_check_period_s=1,
        health_check_timeout_s=SILENCE_S,
        graceful_shutdown_timeout_s=MODEL_SHUTDOWN_S,
    )(ModelReplica)
    return deployment.bind(config, resources)


def _deployment_actor(name: str, actor_class: Any) -> DeploymentActorConfig:
    return DeploymentActorConfig(name=name, actor_class=actor_class, actor_options={"num_cpus": 0})


def replica_resources(model: ModelConfig, *, on_gpu: bool) -> ReplicaResources:
    """What one replica of the model reserves."""
    return ReplicaResources(
        num_ranks=model.tensor_parallel_size,
        replica_num_cpus=REPLICA_NUM_CPUS,
        rank_num_cpus=model.cpus_per_rank,
        rank_num_gpus=1.0 if on_gpu else 0.0,
    )


def max_ongoing_requests(model: ModelConfig) -> int:
    """Serve's own limit on a replica. Leases keep the engine's slots; this only has to be out of their way.

    A finished call counts for Serve until its last message has been read, and its slot is leased again before that, so
    a whole batch may be on its way out while the next is on its way in.
    """
    return 2 * model.max_num_seqs + model.parked_limit
