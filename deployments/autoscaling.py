"""The autoscaling policy that `serve_config.yaml` names: wires a model's queue to the decision. Decides nothing.

Serve pickles what this file defines by value into its controller: the class alone stands here. Must not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.autoscaling import ReadLoad, ReplicaPolicy
from cluster.latest import Latest
from deployments.deployment_actors import CLUSTER_ERRORS
from deployments.queue_load import QueueLoad
from deployments.scaling_settings import ScalingSettings

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext


class ByObjectives:
    """As many replicas as keep each service class's predicted wait within its objective.

    Serve makes one for each deployment that names it, with its `policy_kwargs`, and calls it in its control loop.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """

    def __init__(self, **policy_kwargs: Any) -> None:
        self._limits = ScalingSettings.model_validate(policy_kwargs).limits()
        self._policy: ReplicaPolicy | None = None

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """So many replicas, and nothing for Serve to remember."""
        if self._policy is None:
            self._policy = ReplicaPolicy(self._limits, self.reader(context))
        return self._policy.num_replicas(context), {}

    def reader(self, context: AutoscalingContext) -> ReadLoad:
        """What tells the latest load of this deployment's queue, without waiting."""
        return Latest(QueueLoad.of(context.app_name or "", context.deployment_name), CLUSTER_ERRORS).within
