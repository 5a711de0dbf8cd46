"""A new queue actor sends the older ones away, whatever state they are in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RaySystemError

from deployments.deployment_actors import ActorIdentity
from deployments.queueing.retirement import retire_older

OWN = ActorIdentity("own", 100.0)


class FakeMethod:
    """An actor method: each `remote()` answers, raises, or never ends where it is given neither; the last for ever."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.num_calls = 0

    async def remote(self) -> Any:
        self.num_calls += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await asyncio.Event().wait()
        return answer


class FakeQueue:
    """A queue actor's handle."""

    def __init__(self, *identity: object, retire: object = "done") -> None:
        self.identity = FakeMethod(*identity)
        self.retire = FakeMethod(retire)


def started(started_s: float) -> ActorIdentity:
    return ActorIdentity(f"at-{started_s}", started_s)


async def test_older_queues_are_retired_and_the_own_and_newer_ones_are_not() -> None:
    queues = {"older": FakeQueue(started(99.0)), "own": FakeQueue(OWN), "newer": FakeQueue(started(101.0))}

    await retire_older(OWN, queues)

    assert {name: queue.retire.num_calls for name, queue in queues.items()} == {"older": 1, "own": 0, "newer": 0}


async def test_a_queue_that_has_ended_does_not_keep_the_others_from_being_retired() -> None:
    queues = {"dead": FakeQueue(ActorDiedError()), "older": FakeQueue(started(99.0))}

    await retire_older(OWN, queues)

    assert queues["older"].retire.num_calls == 1


async def test_a_queue_that_does_not_answer_is_named_and_asked_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    queues = {"stuck": FakeQueue(None, None, started(99.0)), "older": FakeQueue(started(1.0))}

    async with asyncio.timeout(5):
        await retire_older(OWN, queues, answer_s=0.01, again_s=0)

    assert queues["stuck"].retire.num_calls == queues["older"].retire.num_calls == 1
    assert [(record.levelname, "stuck" in record.getMessage()) for record in caplog.records] == [("ERROR", True)]


async def test_a_queue_that_dies_before_it_answers_is_asked_no_more() -> None:
    queues = {"stuck": FakeQueue(None, ActorDiedError())}

    async with asyncio.timeout(5):
        await retire_older(OWN, queues, answer_s=0.01, again_s=0)


async def test_a_queue_that_fails_otherwise_fails_the_change() -> None:
    with pytest.raises(RaySystemError):
        await retire_older(OWN, {"older": FakeQueue(RaySystemError("no such method"))})
