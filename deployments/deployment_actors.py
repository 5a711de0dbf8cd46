"""Finds Serve's deployment actors, also while an update keeps two versions alive. Knows names, not work."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.serve._private.constants import SERVE_DEPLOYMENT_ACTOR_PREFIX, SERVE_NAMESPACE
from ray.util import list_named_actors

QUEUE = "queue"  # one for each model deployment
METRICS_HUB = "metrics"  # one for the ingress deployment
IDENTITY_TIMEOUT_S = 2.0
CLUSTER_ERRORS = (RayError, OSError, ValueError, RuntimeError)  # from Ray's look-ups and calls when a cluster ails


@dataclass(frozen=True, slots=True)
class ActorIdentity:
    """Which of several actors of one name this is. Of those not retired, the latest start is in charge."""

    actor_id: str
    started_s: float
    retired: bool = False


def own_identity() -> ActorIdentity:
    """The identity of the actor that calls this, started now."""
    return ActorIdentity(str(ray.get_runtime_context().get_actor_id()), time.time())


def actor_handles(app_name: str, deployment_name: str, actor_name: str) -> dict[str, Any]:
    """Handles by full name, one for each code version alive. One that dies during the look-up is left out.

    Serve names a deployment actor `<prefix><app>::<deployment>::<code version>::<name>`.
    """
    prefix = f"{SERVE_DEPLOYMENT_ACTOR_PREFIX}{app_name}::{deployment_name}::"
    handles = {}
    for actor in list_named_actors(all_namespaces=True):
        name = actor["name"]
        if actor["namespace"] == SERVE_NAMESPACE and name.startswith(prefix) and name.endswith(f"::{actor_name}"):
            try:
                handles[name] = ray.get_actor(name, namespace=SERVE_NAMESPACE)
            except ValueError:
                continue
    return handles


def find_in_charge(app_name: str, deployment_name: str, actor_name: str) -> Any | None:
    """The actor in charge; asks for identities only where there are several. Blocks `IDENTITY_TIMEOUT_S` at most."""
    handles = list(actor_handles(app_name, deployment_name, actor_name).values())
    if len(handles) <= 1:
        return handles[0] if handles else None
    refs = {handle.identity.remote(): handle for handle in handles}
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=IDENTITY_TIMEOUT_S)
    known = [(identity, refs[ref]) for ref in ready if (identity := _identity(ref)) is not None]
    in_charge = [(identity.started_s, handle) for identity, handle in known if not identity.retired]
    return max(in_charge, key=lambda pair: pair[0])[1] if in_charge else None


def _identity(ref: Any) -> ActorIdentity | None:
    try:
        identity: ActorIdentity = ray.get(ref)
    except RayActorError:
        return None
    return identity
