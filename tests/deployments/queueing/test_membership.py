"""What is read out of Serve's broadcast. With Serve's own types, so that a Ray that changes them is noticed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.serve._private.common import DeploymentID, DeploymentTargetInfo, ReplicaID

from deployments.queueing.membership import Membership

MODEL = DeploymentID(name="model", app_name="app")


def targets(*replica_ids: str, is_available: bool = True) -> DeploymentTargetInfo:
    replicas: Any = [SimpleNamespace(replica_id=ReplicaID(replica_id, MODEL)) for replica_id in replica_ids]
    return DeploymentTargetInfo(is_available=is_available, running_replicas=replicas)


def test_running_replicas_are_known_by_their_unique_ids() -> None:
    assert Membership.of(targets("r1", "r2")) == Membership(frozenset({"r1", "r2"}), can_serve=True)


def test_a_deployment_that_starts_or_has_scaled_to_zero_can_serve() -> None:
    assert Membership.of(targets()).can_serve


def test_a_deployment_that_failed_to_deploy_cannot_serve() -> None:
    assert not Membership.of(targets(is_available=False)).can_serve
