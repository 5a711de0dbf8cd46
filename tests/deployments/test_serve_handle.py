"""Every way in which a replica, its node or the way to it can break is the replica's failure."""

from __future__ import annotations

from typing import Any, cast

import pytest
from ray import ObjectRef
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    ObjectLostError,
    OwnerDiedError,
    RayError,
    RaySystemError,
    RayTaskError,
    RpcError,
    WorkerCrashedError,
)
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.errors import ModelUnavailable, ReplicaFailed, to_api_error
from deployments.generate_call import Started
from deployments.serve_handle import ServeModelHandle
from scheduling.errors import QueueFull
from scheduling.score import Stamp
from tests.deployments.serve_fakes import FailingHandle
from tests.deployments.test_router import make_pending

STARTED = Started(0.0, 1.0, "replica-7", Stamp(0.0, 1.0))
LOST_REF = ObjectRef.nil().hex()


async def failure_of(error: Exception) -> Exception:
    """What a call ends with that had started when `error` came."""
    handle = ServeModelHandle("m", None, cast("DeploymentHandle[Any]", FailingHandle(error, STARTED)))
    events = handle.generate(make_pending().args[0])
    assert await anext(events) is STARTED
    with pytest.raises(Exception) as raised:
        await anext(events)
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        WorkerCrashedError(),
        NodeDiedError("its node left"),
        ObjectLostError(LOST_REF, None, ""),
        OwnerDiedError(LOST_REF, None, ""),
        RpcError("the peer closed the connection"),
        RaySystemError("the raylet is gone"),
        RayError("anything else of Ray's"),
        ReplicaUnavailableError("replica-7"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_breaks_between_ingress_and_replica_is_a_503_that_names_the_replica(error: Exception) -> None:
    failure = await failure_of(error)

    assert isinstance(failure, ReplicaFailed)
    assert (failure.replica_id, failure.reason) == ("replica-7", type(error).__name__)


async def test_what_the_replica_itself_raised_keeps_its_own_status() -> None:
    said = RayTaskError("generate", "a traceback", QueueFull(5, 5, 1.0)).as_instanceof_cause()

    shown = to_api_error(await failure_of(said))

    assert shown is not None
    assert (shown.status, shown.code) == (429, "queue_full")


async def test_a_model_that_failed_to_deploy_is_named_in_plain_words() -> None:
    failure = await failure_of(DeploymentUnavailableError(DeploymentID(name="m", app_name="a")))

    assert isinstance(failure, ModelUnavailable)
    assert str(failure) == "model 'm' is unavailable: it failed to deploy"
