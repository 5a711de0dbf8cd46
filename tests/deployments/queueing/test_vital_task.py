"""A process ends with the work that it cannot do without."""

from __future__ import annotations

import asyncio

import pytest

from deployments.queueing.vital_task import vital_task


async def forever() -> None:
    await asyncio.Event().wait()


async def test_work_that_fails_ends_the_process_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    exits: list[int] = []

    async def fail() -> None:
        raise AssertionError("a lease was granted without a ticket")

    task = vital_task(fail(), exits.append)
    await asyncio.wait([task], timeout=5)
    await asyncio.sleep(0)

    assert exits == [1]
    assert "a lease was granted without a ticket" in caplog.text


async def test_work_that_is_cancelled_ends_nothing() -> None:
    exits: list[int] = []
    task = vital_task(forever(), exits.append)

    task.cancel()
    await asyncio.wait([task], timeout=5)
    await asyncio.sleep(0)

    assert exits == []
