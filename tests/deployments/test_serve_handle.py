"""Every way in which a replica, its node or the way to it can break is the replica's failure."""

from __future__ import annotations

import asyncio

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

from deployments import serve_handle
from deployments.errors import ModelUnavailable, ReplicaFailed, to_api_error
from deployments.generate_call import GenerateCall, GenerationEvent, Started
from engine.protocol import FinishReason, SequenceOutput
from scheduling.errors import QueueFull
from scheduling.score import Stamp
from tests.deployments.serve_fakes import FakeHandle, model_handle
from tests.deployments.test_router import make_pending

WITHIN_S = 5.0
CALL: GenerateCall = make_pending().args[0]
STARTED = Started(0.0, 1.0, "replica-7", Stamp(0.0, 1.0))
LOST_REF = ObjectRef.nil().hex()


async def failure_of(error: Exception) -> Exception:
    """What a call ends with that had started when `error` came."""
    handle = FakeHandle(STARTED, error=error, lingers=True)
    async with asyncio.timeout(WITHIN_S), model_handle("m", handle) as model:
        events = model.generate(CALL)
        assert await anext(events) == STARTED
        handle.responses[0].may_end.set()
        with pytest.raises(Exception) as raised:
            await anext(events)
    return raised.value


async def read(handle: FakeHandle) -> list[GenerationEvent]:
    """What a call gives."""
    async with asyncio.timeout(WITHIN_S), model_handle("m", handle) as model:
        return [event async for event in model.generate(CALL)]


def token(token_id: int, finish_reason: FinishReason | None = None) -> SequenceOutput:
    return SequenceOutput(CALL.ticket.lease_id, [token_id], finish_reason=finish_reason)


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


async def test_an_answer_is_read_from_the_feed_to_its_end() -> None:
    events = [STARTED, token(1), token(2, FinishReason.STOP)]

    assert await read(FakeHandle(*events)) == events


async def test_an_answer_that_is_complete_does_not_wait_for_its_call_to_end_and_does_not_cancel_it() -> None:
    handle = FakeHandle(STARTED, token(1, FinishReason.STOP), lingers=True)

    assert await read(handle) == [STARTED, token(1, FinishReason.STOP)]
    assert not handle.responses[0].is_cancelled


async def test_closing_an_answer_before_its_end_cancels_the_call() -> None:
    handle = FakeHandle(STARTED, token(1), lingers=True)
    async with asyncio.timeout(WITHIN_S), model_handle("m", handle) as model:
        events = model.generate(CALL)
        assert await anext(events) == STARTED
        await events.aclose()

    assert handle.responses[0].is_cancelled


async def test_a_feed_that_breaks_before_the_end_is_the_replicas_failure_and_cancels_the_call() -> None:
    handle = FakeHandle(STARTED, token(1), "cut", lingers=True)

    with pytest.raises(ReplicaFailed, match=r"replica-7 failed: its connection broke"):
        await read(handle)
    assert handle.responses[0].is_cancelled


async def test_a_call_that_ends_without_the_end_of_its_answer_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_handle, "LAST_TOKENS_WITHIN_S", 0.0)

    with pytest.raises(ReplicaFailed, match="its call ended before the answer did"):
        await read(FakeHandle(STARTED, token(1)))


async def test_what_the_replica_says_of_its_own_end_is_its_failure_with_the_stamp_that_it_was_granted_under() -> None:
    said = RayTaskError("generate", "a traceback", ReplicaFailed("replica-7", "its engine ended"))
    handle = FakeHandle(STARTED, error=said, lingers=True)
    async with asyncio.timeout(WITHIN_S), model_handle("m", handle, lambda lease_id: Stamp(3.0, 9.0)) as model:
        events = model.generate(CALL)
        assert await anext(events) == STARTED
        handle.responses[0].may_end.set()
        with pytest.raises(ReplicaFailed, match="its engine ended") as raised:
            await anext(events)
    assert raised.value.stamp == Stamp(3.0, 9.0)


async def test_a_loss_is_told_with_the_lease_of_the_attempt_and_its_replica() -> None:
    losses: list[tuple[str, str]] = []
    handle = FakeHandle(STARTED, token(1), "cut", lingers=True)
    async with (
        asyncio.timeout(WITHIN_S),
        model_handle("m", handle, on_loss=lambda *lost: losses.append(lost)) as model,
    ):
        with pytest.raises(ReplicaFailed):
            _ = [event async for event in model.generate(CALL)]
    assert losses == [(CALL.ticket.lease_id, "replica-7")]


async def test_a_call_that_failed_before_it_started_tells_of_no_loss() -> None:
    losses: list[tuple[str, str]] = []
    handle = FakeHandle(error=ActorDiedError())
    async with (
        asyncio.timeout(WITHIN_S),
        model_handle("m", handle, on_loss=lambda *lost: losses.append(lost)) as model,
    ):
        with pytest.raises(ReplicaFailed):
            _ = [event async for event in model.generate(CALL)]
    assert losses == []
