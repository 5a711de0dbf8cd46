"""What a call receives is read in order, from one attempt only, to its end or its failure."""

from __future__ import annotations

import asyncio

import pytest

from deployments.errors import ReplicaFailed
from deployments.feed import mailbox as mailbox_module
from deployments.feed.mailbox import Mailbox
from deployments.feed.messages import CallStarted
from deployments.generate_call import GenerationEvent, Started
from engine.protocol import FinishReason, SequenceOutput
from scheduling.score import Stamp

LAST = FinishReason.LENGTH


def start(lease_id: str) -> CallStarted:
    return CallStarted(lease_id, Started(0.0, 1.0, f"replica of {lease_id}", Stamp(0.0, 1.0)))


def token(lease_id: str, token_id: int, finish_reason: FinishReason | None = None) -> SequenceOutput:
    return SequenceOutput(lease_id, [token_id], finish_reason=finish_reason)


async def read_all(mailbox: Mailbox, events: list[GenerationEvent] | None = None) -> list[GenerationEvent]:
    """What is read, also in `events`, for when it fails."""
    events = [] if events is None else events
    async for event in mailbox.read():
        events.append(event)
    return events


@pytest.fixture
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "BEAT_S", 0.01)
    monkeypatch.setattr(mailbox_module, "STARTS_WITHIN_S", 0.03)


@pytest.mark.usefixtures("_short_patience")
async def test_a_call_that_starts_nowhere_has_failed_with_the_replica_that_it_was_sent_to() -> None:
    mailbox = Mailbox()
    mailbox.expect("a~1", "r2")

    async with asyncio.timeout(5):
        with pytest.raises(ReplicaFailed, match=r"r2 failed: the call has not started there"):
            await read_all(mailbox)
    assert (mailbox.lease_id, mailbox.replica_id) == ("a~1", "r2")


@pytest.mark.usefixtures("_short_patience")
async def test_a_call_that_has_started_or_waits_for_another_replica_may_take_its_time() -> None:
    started, waiting, lost = Mailbox(), Mailbox(), Mailbox()
    started.expect("a", "r1")
    started.start(start("a"), object())
    waiting.expect("b", "r1")
    waiting.expect("b", None)
    lost.expect("c", "r1")  # after them: when it is given up, they would have been

    async with asyncio.timeout(5):
        await lost.ended.wait()

    assert not started.ended.is_set()
    assert not waiting.ended.is_set()


@pytest.mark.usefixtures("_short_patience")
async def test_an_attempt_that_was_given_up_and_starts_late_does_not_stand_for_the_next() -> None:
    mailbox = Mailbox()
    mailbox.expect("a", "r1")
    mailbox.expect("a", None)
    mailbox.expect("a~1", "r2")
    mailbox.start(start("a"), object())

    async with asyncio.timeout(5):
        with pytest.raises(ReplicaFailed, match="r2 failed"):
            await read_all(mailbox)


async def test_an_answer_whose_call_broke_ends_there_for_no_later_attempt_would_be_heard() -> None:
    mailbox = Mailbox()
    mailbox.expect("a", "r1")
    mailbox.start(start("a"), object())
    mailbox.put(token("a", 1))
    mailbox.expect("a", None)

    with pytest.raises(ReplicaFailed, match="replica of a failed: the call to it broke"):
        await read_all(mailbox)


async def test_what_came_before_a_failure_is_read_first() -> None:
    mailbox, events = Mailbox(), list[GenerationEvent]()
    mailbox.start(start("a"), object())
    mailbox.put(token("a", 1))
    mailbox.fail(ReplicaFailed("r", "first"))
    mailbox.fail(ReplicaFailed("r", "second"))

    with pytest.raises(ReplicaFailed, match="first"):
        await read_all(mailbox, events)

    assert events == [start("a").started, token("a", 1)]
    assert not mailbox.is_complete


async def test_nothing_fails_after_the_last_token() -> None:
    mailbox = Mailbox()
    mailbox.start(start("a"), object())
    mailbox.put(token("a", 1, LAST))
    mailbox.fail(ReplicaFailed("r", "late"))
    mailbox.put(token("a", 2))

    assert await read_all(mailbox) == [start("a").started, token("a", 1, LAST)]
    assert mailbox.is_complete


async def test_the_attempt_that_started_last_is_the_one_that_is_heard() -> None:
    mailbox = Mailbox()
    mailbox.start(start("a"), object())
    mailbox.start(start("a~1"), object())
    mailbox.put(token("a", 1, LAST))
    mailbox.put(token("a~1", 2, LAST))

    assert await read_all(mailbox) == [start("a").started, start("a~1").started, token("a~1", 2, LAST)]
    assert mailbox.replica_id == "replica of a~1"


async def test_no_other_attempt_is_heard_once_one_has_spoken() -> None:
    mailbox = Mailbox()
    mailbox.start(start("a"), object())
    mailbox.put(token("a", 1))
    mailbox.start(start("a~1"), object())
    mailbox.put(token("a~1", 9))
    mailbox.put(token("a", 2, LAST))

    assert await read_all(mailbox) == [start("a").started, token("a", 1), token("a", 2, LAST)]


async def test_only_the_connection_that_the_attempt_came_over_can_lose_it() -> None:
    mailbox, first, second = Mailbox(), object(), object()
    mailbox.start(start("a"), first)
    mailbox.start(start("a~1"), second)

    mailbox.lose(first)
    assert not mailbox.ended.is_set()

    mailbox.lose(second)
    with pytest.raises(ReplicaFailed, match="replica of a~1 failed: its connection broke"):
        await read_all(mailbox)
