"""Follows what Ray Serve says of a deployment's replicas. The one place that uses Serve's long poll.

Serve offers no public way to be told of membership from outside a handle; `tests/service` fails loudly if this breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.serve._private.common import DeploymentID, DeploymentTargetInfo
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.long_poll import LongPollClient, LongPollNamespace


@dataclass(frozen=True, slots=True)
class Membership:
    """What Serve says of one deployment.

    running: unique ids of its running replicas.
    can_serve: false once it has failed to deploy and nothing of it runs; Serve refuses new requests then. A deployment
        that is still starting, or has scaled to zero, can serve.
    """

    running: frozenset[str]
    can_serve: bool

    @classmethod
    def of(cls, targets: DeploymentTargetInfo) -> Membership:
        running = frozenset(replica.replica_id.unique_id for replica in targets.running_replicas)
        return cls(running, targets.is_available)


def watch_membership(
    deployment_id: DeploymentID, on_change: Callable[[Membership], None], client_id: str
) -> LongPollClient:
    """Call `on_change` on the running loop, now and at every change, until the returned watch is stopped."""
    key: Any = (LongPollNamespace.DEPLOYMENT_TARGETS, deployment_id)
    return LongPollClient(
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE),
        {key: lambda targets: on_change(Membership.of(targets))},
        call_in_event_loop=asyncio.get_running_loop(),
        client_id=client_id,
    )
