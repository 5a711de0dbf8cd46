"""What Serve tells a policy, built by hand: a new Ray that tells it otherwise fails every test that uses this."""

from __future__ import annotations

from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

TARGET_ONGOING_REQUESTS = 4.0


def context(
    running: int = 1, target: int = 1, num_requests: float = 0.0, least: int = 0, most: int = 10
) -> AutoscalingContext:
    return AutoscalingContext(
        deployment_id=DeploymentID("model", "app"),
        deployment_name="model",
        app_name="app",
        current_num_replicas=running,
        target_num_replicas=target,
        running_replicas=[],
        total_num_requests=num_requests,
        total_queued_requests=0.0,
        aggregated_metrics=None,
        raw_metrics=None,
        capacity_adjusted_min_replicas=least,
        capacity_adjusted_max_replicas=most,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=AutoscalingConfig(max_replicas=10, target_ongoing_requests=TARGET_ONGOING_REQUESTS),
    )
