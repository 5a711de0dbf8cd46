"""Finds the queue actor of a model, also while an update leaves two of them alive. Knows Ray's actor names, no more."""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private.constants import SERVE_DEPLOYMENT_ACTOR_PREFIX, SERVE_NAMESPACE
from ray.util import list_named_actors

QUEUE_ACTOR_NAME = "queue"
IDENTITY_TIMEOUT_S = 2.0


def queue_names(app_name: str, deployment_name: str) -> list[str]:
    """The names of all queue actors of a model that are alive, one for each code version.

    Serve names a deployment actor `<prefix><app>::<deployment>::<code version>::<name>`.
    """
    prefix = f"{SERVE_DEPLOYMENT_ACTOR_PREFIX}{app_name}::{deployment_name}::"
    suffix = f"::{QUEUE_ACTOR_NAME}"
    named = [actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == SERVE_NAMESPACE]
    return sorted(name for name in named if name.startswith(prefix) and name.endswith(suffix))


def queue_handles(app_name: str, deployment_name: str) -> dict[str, Any]:
    """Handles by name. An actor that died between the listing and the look-up is left out."""
    handles = {}
    for name in queue_names(app_name, deployment_name):
        try:
            handles[name] = ray.get_actor(name, namespace=SERVE_NAMESPACE)
        except ValueError:
            continue
    return handles


def find_queue(app_name: str, deployment_name: str) -> Any | None:
    """The queue in charge: of those not retired, the one that started last. Blocks for `IDENTITY_TIMEOUT_S` at most."""
    handles = list(queue_handles(app_name, deployment_name).values())
    if len(handles) <= 1:
        return handles[0] if handles else None
    refs = {handle.identity.remote(): handle for handle in handles}
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=IDENTITY_TIMEOUT_S)
    in_charge = None
    latest_s = float("-inf")
    for ref in ready:
        try:
            identity = ray.get(ref)
        except ray.exceptions.RayActorError:
            continue
        if not identity.retired and identity.started_s > latest_s:
            in_charge, latest_s = refs[ref], identity.started_s
    return in_charge
