"""A call that waits for a model which cannot serve any more ends as the calls do that come after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from ray.serve._private.common import DeploymentHandleSource
from ray.serve.exceptions import DeploymentUnavailableError

from deployments.errors import ApiError, ModelUnavailable, to_api_error
from deployments.queueing.client import QueueClient
from deployments.queueing.lines import tell_whether_grants_can_come
from deployments.queueing.membership import Membership
from deployments.queueing.messages import Register
from tests.deployments.queueing.in_memory_queue import REPLICA, WITHIN_S, InMemoryQueue, line_to
from tests.deployments.serve_fakes import FakeHandle, model_handle
from tests.deployments.test_router import MODEL, RouterOnFakeLine, make_pending

FAILED = Membership(frozenset(), can_serve=False)
STARTING = Membership(frozenset(), can_serve=True)


def make_router(line: QueueClient) -> RouterOnFakeLine:
    router = RouterOnFakeLine(MODEL, DeploymentHandleSource.REPLICA, self_actor_id="actor")
    router.initialize_state()
    router.line = cast("Any", line)
    return router


async def answer_to(routing_error: Exception) -> ApiError | None:
    """What the client of a call is told whose routing raised this."""
    async with model_handle(MODEL.name, FakeHandle(error=routing_error)) as model:
        events: AsyncGenerator[object, None] = model.generate(make_pending().args[0])
        with pytest.raises(ModelUnavailable) as raised:
            await anext(events)
    return to_api_error(raised.value)


async def test_a_waiting_call_gets_the_same_503_as_one_that_comes_later() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as line, asyncio.timeout(WITHIN_S):
        call = asyncio.create_task(make_router(line)._choose_replica_for_request(make_pending()))
        await queue.enqueued.wait()
        tell_whether_grants_can_come(line, MODEL, FAILED)
        with pytest.raises(DeploymentUnavailableError) as waited:
            await call

    waiting, later = await answer_to(waited.value), await answer_to(DeploymentUnavailableError(MODEL))
    assert waiting is not None
    assert later is not None
    assert (waiting.status, waiting.code) == (503, "model_unavailable")
    assert (waiting.body(), waiting.headers()) == (later.body(), later.headers())


async def test_a_call_that_is_told_so_leaves_the_queue() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as line, asyncio.timeout(WITHIN_S):
        call = asyncio.create_task(make_router(line)._choose_replica_for_request(make_pending()))
        await queue.enqueued.wait()
        tell_whether_grants_can_come(line, MODEL, FAILED)
        await asyncio.wait([call])

        await queue.until(lambda: queue.state.dispatcher.num_waiting == 0)
        assert isinstance(call.exception(), DeploymentUnavailableError)


async def test_a_call_is_told_so_also_where_there_is_no_queue_to_wait_in() -> None:
    async with line_to(lambda: None) as line, asyncio.timeout(WITHIN_S):
        call = asyncio.create_task(make_router(line)._choose_replica_for_request(make_pending()))
        await asyncio.sleep(0)
        tell_whether_grants_can_come(line, MODEL, FAILED)

        with pytest.raises(DeploymentUnavailableError):
            await call


async def test_a_call_for_a_model_that_starts_or_sleeps_goes_on_waiting_until_a_replica_comes() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as line, asyncio.timeout(WITHIN_S):
        router = make_router(line)
        call = asyncio.create_task(router._lease(make_pending()))
        await queue.enqueued.wait()
        tell_whether_grants_can_come(line, MODEL, STARTING)

        queue.state.submit("replica", [Register(REPLICA)], 0, 1.0)

        assert (await call).replica_id == "r1"


async def test_a_call_after_the_model_was_mended_is_granted_and_one_before_is_refused_at_once() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue) as line, asyncio.timeout(WITHIN_S):
        router = make_router(line)
        tell_whether_grants_can_come(line, MODEL, FAILED)
        with pytest.raises(DeploymentUnavailableError):
            await router._lease(make_pending())

        tell_whether_grants_can_come(line, MODEL, STARTING)

        assert (await router._lease(make_pending())).replica_id == "r1"
