"""Who is inside may stay for a while when the gate closes; nobody else comes in."""

from __future__ import annotations

import asyncio

import pytest

from deployments.api.gate import Gate
from deployments.errors import ServiceEnding

WITHIN_S = 5.0


async def stay(gate: Gate, until: asyncio.Event) -> None:
    async with gate.passing():
        await until.wait()


async def test_a_closed_gate_lets_nobody_in() -> None:
    gate = Gate()
    gate.close()
    with pytest.raises(ServiceEnding):
        async with gate.passing():
            pytest.fail("it let a request in")


async def test_it_is_empty_when_the_last_one_inside_has_ended() -> None:
    gate, done = Gate(), asyncio.Event()
    inside = asyncio.create_task(stay(gate, done))
    await asyncio.sleep(0)
    gate.close()
    emptied = asyncio.create_task(gate.empty(WITHIN_S))
    await asyncio.sleep(0)
    assert not emptied.done()
    done.set()
    await asyncio.wait_for(asyncio.gather(emptied, inside), WITHIN_S)


async def test_whoever_stays_too_long_is_sent_away_with_the_reason() -> None:
    gate = Gate()
    inside = asyncio.create_task(stay(gate, asyncio.Event()))
    await asyncio.sleep(0)
    gate.close()
    await asyncio.wait_for(gate.empty(0.0), WITHIN_S)
    with pytest.raises(ServiceEnding):
        await inside


async def test_a_timeout_of_the_requests_own_is_its_own() -> None:
    with pytest.raises(TimeoutError):
        async with Gate().passing():
            raise TimeoutError
