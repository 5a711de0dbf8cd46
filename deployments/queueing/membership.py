"""Follows Ray Serve's own list of a deployment's running replicas. The one place that uses Serve's long poll.

Serve offers no public way to be told of membership from outside a handle; `tests/service` fails loudly if this breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ray
from ray.serve._private.common import DeploymentID
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.long_poll import LongPollClient, LongPollNamespace


def watch_running_replicas(
    app_name: str, deployment_name: str, on_change: Callable[[frozenset[str]], None], client_id: str
) -> LongPollClient:
    """Call `on_change` on the running loop with the unique ids of the running replicas, now and at every change."""

    def targets_changed(targets: Any) -> None:
        on_change(frozenset(replica.replica_id.unique_id for replica in targets.running_replicas))

    key: Any = (LongPollNamespace.DEPLOYMENT_TARGETS, DeploymentID(name=deployment_name, app_name=app_name))
    return LongPollClient(
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE),
        {key: targets_changed},
        call_in_event_loop=asyncio.get_running_loop(),
        client_id=client_id,
    )
