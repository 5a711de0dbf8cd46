"""The router: what it tells the queue about a lease. With Serve's own base class, without a cluster."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, RequestMetadata
from ray.serve._private.router import AsyncioRouter
from ray.serve.request_router import PendingRequest, ReplicaID

from deployments.errors import ModelUnavailable
from deployments.generate_call import GenerateCall
from deployments.queueing.messages import QueueMessage, Release, SendFailed
from deployments.router import MAX_RESENDS, PriorityRouter
from engine.protocol import EngineRequest, SamplingParams
from scheduling.request import Grant, Ticket
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_ticket

WITHIN_S = 5.0
MODEL = DeploymentID(name="model", app_name="app")
STAMP = Stamp(0, 1.0)


class FakeLine:
    """Grants every lease to the replicas it is given, in turn; the last of them for ever."""

    def __init__(self, *replica_ids: str) -> None:
        self.replica_ids = list(replica_ids)
        self.leased: list[str] = []
        self.told: list[QueueMessage] = []

    async def lease(self, ticket: Ticket) -> Grant:
        replica_id = self.replica_ids.pop(0) if len(self.replica_ids) > 1 else self.replica_ids[0]
        self.leased.append(ticket.lease_id)
        return Grant(ticket.lease_id, replica_id, STAMP, ScorePolicy(), 1.0)

    def tell(self, message: QueueMessage) -> None:
        self.told.append(message)

    def mention(self, message: QueueMessage) -> None:
        self.told.append(message)


class RouterOnFakeLine(PriorityRouter):
    line: FakeLine

    def _line(self) -> Any:
        return self.line


class FakeReplica:
    """As much of Serve's replica as a list of them needs."""

    def __init__(self, replica_id: str) -> None:
        self.replica_id = ReplicaID(replica_id, MODEL)


class FakeResult:
    def __init__(self) -> None:
        self.callbacks: list[Callable[[object], None]] = []

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self.callbacks.append(callback)


def make_router(line: FakeLine, *running: str) -> RouterOnFakeLine:
    router = RouterOnFakeLine(MODEL, DeploymentHandleSource.REPLICA, self_actor_id="actor")
    router.initialize_state()
    router.line = line
    set_running(router, *running)
    return router


def set_running(router: RouterOnFakeLine, *replica_ids: str) -> None:
    """Serve's list of running replicas, without asking them for their queue lengths."""
    replicas: Any = [FakeReplica(replica_id) for replica_id in replica_ids]
    router._replica_id_set = {replica.replica_id for replica in replicas}
    router.update_replicas(replicas)


def make_pending(num_resends: int = 0) -> PendingRequest:
    ticket = make_ticket("a")
    request = EngineRequest("a", [1, 2], SamplingParams(max_tokens=4, seed=0), STAMP, ScorePolicy())
    call = GenerateCall(ticket, request, num_resends=num_resends)
    return PendingRequest([call], {}, RequestMetadata(request_id="r", internal_request_id="i"))


async def test_a_call_goes_to_the_replica_that_its_lease_names() -> None:
    router = make_router(FakeLine("r2"), "r1", "r2")

    replica = await router._choose_replica_for_request(make_pending())

    assert replica.replica_id.unique_id == "r2"
    assert router.line.told == []


async def test_a_grant_to_a_replica_that_left_the_list_is_given_back_at_once() -> None:
    router = make_router(FakeLine("gone", "alive"), "gone", "alive")
    set_running(router, "alive")

    async with asyncio.timeout(1):
        replica = await router._choose_replica_for_request(make_pending())

    assert replica.replica_id.unique_id == "alive"
    assert router.line.told == [SendFailed("a", "gone")]
    assert router.line.leased == ["a", "a~1"]


async def test_a_grant_to_a_replica_that_was_found_dead_is_given_back_at_once() -> None:
    router = make_router(FakeLine("dead", "alive"), "dead", "alive")
    router.on_replica_actor_died(ReplicaID("dead", MODEL))

    async with asyncio.timeout(1):
        replica = await router._choose_replica_for_request(make_pending())

    assert replica.replica_id.unique_id == "alive"


async def test_a_granted_replica_that_is_not_listed_yet_is_waited_for() -> None:
    router = make_router(FakeLine("new"), "old")
    choice = asyncio.create_task(router._choose_replica_for_request(make_pending()))
    await asyncio.sleep(0)

    set_running(router, "old", "new")

    assert (await asyncio.wait_for(choice, WITHIN_S)).replica_id.unique_id == "new"


async def test_a_call_that_no_replica_takes_is_refused_after_a_bounded_number_of_resends() -> None:
    router = make_router(FakeLine("gone"), "gone")
    set_running(router)

    with pytest.raises(ModelUnavailable, match="no replica took it"):
        await asyncio.wait_for(router._choose_replica_for_request(make_pending()), WITHIN_S)

    assert len(router.line.leased) == MAX_RESENDS + 1
    assert sum(isinstance(message, SendFailed) for message in router.line.told) == MAX_RESENDS + 1


async def test_a_call_cancelled_before_a_replica_took_it_releases_its_lease() -> None:
    router = make_router(FakeLine("r1"), "r1")
    chosen = asyncio.Event()

    async def route() -> None:
        await router._choose_replica_for_request(make_pending())
        chosen.set()
        await asyncio.Event().wait()  # for the replica to accept

    routing = asyncio.create_task(route())
    await asyncio.wait_for(chosen.wait(), WITHIN_S)
    routing.cancel()
    await asyncio.wait([routing], timeout=WITHIN_S)
    await asyncio.sleep(0)

    assert router.line.told == [Release("a")]


async def test_the_end_of_a_call_is_told_to_the_queue_by_its_own_lease() -> None:
    router = make_router(FakeLine("r1"), "r1")
    pending = make_pending()
    replica = await router._choose_replica_for_request(pending)
    result: Any = FakeResult()

    router.on_request_routed(pending, replica.replica_id, result)
    before = list(router.line.told)
    for callback in result.callbacks:
        callback(None)

    assert (before, router.line.told) == ([], [Release("a")])


def test_serve_still_calls_the_hooks_that_the_router_builds_on() -> None:
    sends = inspect.getsource(AsyncioRouter._route_and_send_request_once)

    assert "_choose_replica_for_request(" in sends
    assert "on_request_routed(" in sends
    assert "on_replica_actor_died(" in inspect.getsource(AsyncioRouter._handle_actor_died_error)
    assert "asyncio.current_task()" in inspect.getsource(AsyncioRouter.assign_request)
