"""Preprocessing under load: the order in which prompts are tokenised is the order of their scores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from deployments.api.exchange import MAX_INLINE_BYTES
from scheduling.request import Ticket
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import Service, serving

BOUND_S = 60.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def _hold(service: Service, gate: threading.Event) -> asyncio.Task[bool]:
    """Keeps the pool's only thread busy until the gate opens."""
    taken = threading.Event()

    def hold() -> bool:
        taken.set()
        return gate.wait(BOUND_S)

    held = asyncio.create_task(service.pool.run(1e9, hold))
    await asyncio.to_thread(taken.wait, BOUND_S)
    return held


async def _until_pending(service: Service, number: int) -> None:
    while service.pool.num_pending < number:  # noqa: ASYNC110 - it yields to the requests and waits for no time
        await asyncio.sleep(0)


async def test_an_urgent_request_is_tokenised_and_queued_before_bulk_prompts_that_came_first(
    gate: threading.Event,
) -> None:
    handle = FakeHandle(max_model_len=100_000)
    async with serving(handle) as service:
        service.pool.max_pending = 2_000
        held = await _hold(service, gate)
        bulk = [asyncio.create_task(service.complete(prompt="bulk " * 1_000, priority=-10)) for _ in range(100)]
        await asyncio.wait_for(_until_pending(service, 100), BOUND_S)
        urgent = asyncio.create_task(service.complete(prompt="urgent", priority=10))
        await asyncio.wait_for(_until_pending(service, 101), BOUND_S)
        gate.set()
        await asyncio.wait_for(asyncio.gather(held, urgent, *bulk), BOUND_S)
    tickets: list[Ticket] = [call.ticket for call in handle.calls]
    assert tickets[0].priority == 10
    assert len(tickets) == 101


async def test_when_too_many_prompts_wait_the_least_important_is_turned_away(gate: threading.Event) -> None:
    async with serving() as service:
        service.pool.max_pending = 1
        held = await _hold(service, gate)
        bulk = asyncio.create_task(service.chat(priority=-10))
        await asyncio.wait_for(_until_pending(service, 1), BOUND_S)
        urgent = asyncio.create_task(service.chat(priority=10))
        refused = await asyncio.wait_for(bulk, BOUND_S)
        gate.set()
        answered = await asyncio.wait_for(urgent, BOUND_S)
        assert await held
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert answered.status_code == 200


async def test_a_large_body_is_parsed_in_the_pool_and_a_small_one_without_it(gate: threading.Event) -> None:
    async with serving() as service:
        held = await _hold(service, gate)
        large = asyncio.create_task(service.chat(temperature="hot", user="x" * MAX_INLINE_BYTES))
        await asyncio.wait_for(_until_pending(service, 1), BOUND_S)
        small = await asyncio.wait_for(service.chat(temperature="hot"), BOUND_S)
        gate.set()
        refused = await asyncio.wait_for(large, BOUND_S)
        assert await held
    for response in (small, refused):
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "temperature"


async def test_a_large_body_waits_behind_prompts_that_are_known_to_be_urgent(gate: threading.Event) -> None:
    handle = FakeHandle(max_model_len=100_000)
    async with serving(handle) as service:
        held = await _hold(service, gate)
        large = asyncio.create_task(service.complete(prompt="x" * MAX_INLINE_BYTES))
        await asyncio.wait_for(_until_pending(service, 1), BOUND_S)
        urgent = asyncio.create_task(service.complete(prompt="urgent", priority=10))
        await asyncio.wait_for(_until_pending(service, 2), BOUND_S)
        gate.set()
        await asyncio.wait_for(asyncio.gather(held, urgent, large), BOUND_S)
    assert [call.ticket.priority for call in handle.calls] == [10, 0]
