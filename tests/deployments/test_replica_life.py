"""A replica's process ends with the first of its works, and takes its leave before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from deployments.replica_life import ReplicaLife

WITHIN_S = 5.0


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise ConnectionResetError("rank 0 closed the socket")


async def finish() -> str:
    return "rank 1 failed: out of memory"


class Process:
    """Notes what its replica does at the end, in order."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.ended = asyncio.Event()

    def live(self, farewell: Callable[[], None] | None = None, **works: Coroutine[Any, Any, object]) -> ReplicaLife:
        return ReplicaLife(works, farewell or self.say_farewell, self.end, farewell_s=0.0)

    def say_farewell(self) -> None:
        self.notes.append("farewell")

    def end(self, code: int) -> None:
        self.notes.append(f"exit {code}")
        self.ended.set()


@pytest.mark.parametrize(("work", "reason"), [(fail, "rank 0 closed the socket"), (finish, "out of memory")])
async def test_any_work_that_ends_ends_the_process_after_a_farewell(
    work: Callable[[], Coroutine[Any, Any, object]], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process()
    life = process.live(group=forever(), link=work(), heartbeat=forever())

    await asyncio.wait_for(process.ended.wait(), WITHIN_S)

    assert process.notes == ["farewell", "exit 1"]
    assert life.is_over
    assert "link" in caplog.text
    assert reason in caplog.text
    life.stop()


async def test_the_other_works_go_on_while_the_farewell_is_said() -> None:
    process = Process()
    said, heard = asyncio.Event(), asyncio.Event()

    async def send_what_is_said() -> None:
        await said.wait()
        heard.set()
        await forever()

    life = process.live(said.set, link=fail(), line=send_what_is_said())

    await asyncio.wait_for(heard.wait(), WITHIN_S)
    life.stop()


async def test_a_farewell_that_fails_ends_the_process_all_the_same() -> None:
    process = Process()

    def stumble() -> None:
        raise AssertionError("the line was never made")

    life = process.live(stumble, link=fail())

    await asyncio.wait_for(process.ended.wait(), WITHIN_S)
    assert process.notes == ["exit 1"]
    life.stop()


async def test_a_replica_that_serve_ends_is_left_to_it() -> None:
    process = Process()
    life = process.live(link=forever(), heartbeat=forever())
    assert not life.is_over

    life.stop()
    await asyncio.wait([life._ending, *life._works.values()], timeout=WITHIN_S)
    await asyncio.sleep(0)

    assert process.notes == []
