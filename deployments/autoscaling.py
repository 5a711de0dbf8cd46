"""The autoscaling policy that `serve_config.yaml` names: wires a model's queue to the decision. Decides nothing.

Serve pickles the class by value into its controller, so it holds nothing but the wiring. Must not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from cluster.autoscaling import ReplicaPolicy
from cluster.latest import Latest
from deployments.deployment_actors import CLUSTER_ERRORS, QUEUE, find_in_charge
from deployments.scaling_settings import ScalingSettings
from scheduling.autoscaling import ScalingLoad

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

ANSWER_S = 5.0


class ByObjectives:
    """Replicas by the predicted wait of each service class against its objective.

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
            line = QueueReader(context.app_name or "", context.deployment_name)
            self._policy = ReplicaPolicy(self._limits, Latest(line.load, CLUSTER_ERRORS).within)
        return self._policy.num_replicas(context), {}


class QueueReader:
    """Asks the queue in charge of a model for its load. Blocks, so it has a thread to itself."""

    def __init__(self, app_name: str, deployment_name: str) -> None:
        self._app_name = app_name
        self._deployment_name = deployment_name
        self._queue: Any | None = None

    def load(self) -> ScalingLoad | None:
        """None while there is no queue in charge.

        Raises:
            CLUSTER_ERRORS: it cannot be asked now; the next call looks for it anew.
        """
        queue = self._queue or find_in_charge(self._app_name, self._deployment_name, QUEUE)
        self._queue = None
        if queue is None:
            return None
        load: ScalingLoad | None = ray.get(queue.load.remote(), timeout=ANSWER_S)
        self._queue = None if load is None else queue
        return load
