"""A process ends with the work that it cannot do without."""

from __future__ import annotations

import asyncio

import pytest

from deployments.queueing.vital_task import loud_task, vital_step, vital_task


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


async def test_a_vital_step_may_end_but_its_failure_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    exits: list[int] = []

    async def finish() -> None:
        return

    async def fail() -> None:
        raise AssertionError("the older queue still grants")

    tasks = [vital_step(finish(), exits.append), vital_step(fail(), exits.append), vital_step(forever(), exits.append)]
    tasks[-1].cancel()
    await asyncio.wait(tasks, timeout=5)
    await asyncio.sleep(0)

    assert exits == [1]
    assert "the older queue still grants" in caplog.text


async def test_work_that_can_be_done_without_fails_loudly_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise AssertionError("a gauge has no labels")

    tasks = [loud_task(fail(), "the queue's metrics"), loud_task(forever(), "what was cancelled")]
    tasks[-1].cancel()
    await asyncio.wait(tasks, timeout=5)
    await asyncio.sleep(0)

    [record] = caplog.records
    assert record.levelname == "CRITICAL"
    assert "the queue's metrics" in record.message
    assert "a gauge has no labels" in caplog.text
