"""Many calls over one socket: sorted, cancelled, and told when it breaks. Against a channel in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from deployments.engine_link import EngineLink, LinkBroken, SinkGone
from engine.protocol import (
    CommandMessage,
    EngineRequest,
    EngineStats,
    FinishReason,
    SamplingParams,
    SequenceOutput,
    StepMessage,
)
from scheduling.score import ScorePolicy, Stamp

WITHIN_S = 5.0


class InMemoryChannel:
    """Rank 0's end is the test."""

    def __init__(self) -> None:
        self.commands: asyncio.Queue[CommandMessage] = asyncio.Queue()
        self.steps: asyncio.Queue[StepMessage | None] = asyncio.Queue()
        self.send_error: Exception | None = None

    async def send(self, command: CommandMessage) -> None:
        if self.send_error is not None:
            raise self.send_error
        await self.commands.put(command)

    async def __aiter__(self) -> AsyncIterator[StepMessage]:
        while (step := await self.steps.get()) is not None:
            yield step

    def step(self, *outputs: SequenceOutput, held: tuple[str, ...] = ()) -> None:
        self.steps.put_nowait(StepMessage(list(outputs), EngineStats(), list(held)))

    def end(self) -> None:
        self.steps.put_nowait(None)


class Linked:
    """A running link and what it said of finished leases."""

    def __init__(self) -> None:
        self.channel = InMemoryChannel()
        self.finished: list[str] = []
        self.served: dict[str, int | None] = {}
        self.held: asyncio.Queue[str] = asyncio.Queue()
        self.link = EngineLink(self.channel, self._finish, self.held.put_nowait)
        self.running = asyncio.create_task(self.link.run())

    def _finish(self, lease_id: str, num_served: int | None) -> None:
        self.finished.append(lease_id)
        self.served[lease_id] = num_served


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[Linked]:
    made = Linked()
    try:
        async with asyncio.timeout(WITHIN_S):
            yield made
    finally:
        made.running.cancel()
        await asyncio.gather(made.running, return_exceptions=True)


def request(lease_id: str) -> EngineRequest:
    return EngineRequest(lease_id, [1], SamplingParams(max_tokens=4, seed=1), Stamp(0, 0), ScorePolicy())


def token(lease_id: str, token_id: int, finish_reason: FinishReason | None = None) -> SequenceOutput:
    return SequenceOutput(lease_id, [token_id], finish_reason=finish_reason)


class Recorder:
    """A sink that keeps what it is given, one list for each step."""

    def __init__(self) -> None:
        self.steps: list[list[SequenceOutput]] = []
        self.arrived = asyncio.Event()

    def put(self, outputs: list[SequenceOutput]) -> None:
        self.steps.append(outputs)
        self.arrived.set()


def generate(made: Linked, lease_id: str, sink: Recorder) -> asyncio.Task[None]:
    return asyncio.create_task(made.link.generate(request(lease_id), sink))


async def test_each_ingress_gets_the_outputs_of_its_own_calls_in_one_message_a_step() -> None:
    async with linked() as made:
        one, other = Recorder(), Recorder()
        calls = [generate(made, "a", one), generate(made, "b", other), generate(made, "c", one)]
        await made.channel.commands.get()

        first = [token("a", 1), token("b", 7), token("c", 4)]
        last = [token(lease_id, 8, FinishReason.STOP) for lease_id in "bca"]
        made.channel.step(*first)
        made.channel.step(*last)
        await asyncio.gather(*calls)

        assert one.steps == [[first[0], first[2]], [last[1], last[2]]]
        assert other.steps == [[first[1]], [last[0]]]
        assert made.finished == ["b", "c", "a"]
        assert made.link.lease_ids == ()


async def test_cancelling_a_call_takes_it_off_the_engine() -> None:
    async with linked() as made:
        call = generate(made, "a", Recorder())
        await made.channel.commands.get()

        call.cancel()

        assert (await made.channel.commands.get()).cancelled == ["a"]
        assert made.finished == ["a"]
        assert made.link.lease_ids == ()


async def test_what_a_cancelled_call_was_served_is_told_when_the_engine_has_said_it() -> None:
    async with linked() as made:
        call = generate(made, "a", Recorder())
        await made.channel.commands.get()
        call.cancel()
        await made.channel.commands.get()
        assert made.served == {"a": None}

        ended = SequenceOutput("a", finish_reason=FinishReason.CANCELLED, num_served_tokens=40)
        made.channel.step(ended)
        made.channel.step(ended, SequenceOutput("unknown", finish_reason=FinishReason.STOP, num_served_tokens=1))
        made.channel.end()
        await made.running

        assert (made.finished, made.served) == (["a", "a"], {"a": 40})


async def test_the_calls_of_an_ingress_that_is_gone_are_taken_off_the_engine_and_no_others() -> None:
    async with linked() as made:
        gone, there = Recorder(), Recorder()
        lost, kept = generate(made, "a", gone), generate(made, "b", there)
        await made.channel.commands.get()

        made.link.forsake(gone)

        with pytest.raises(SinkGone):
            await lost
        assert (await made.channel.commands.get()).cancelled == ["a"]
        assert made.finished == ["a"]
        assert made.link.lease_ids == ("b",)
        made.channel.step(token("b", 1, FinishReason.STOP))
        await kept


async def test_an_answer_that_was_complete_when_the_socket_ended_has_ended_well() -> None:
    async with linked() as made:
        sink = Recorder()
        call = generate(made, "a", sink)
        await made.channel.commands.get()
        made.channel.step(token("a", 2, FinishReason.STOP))
        made.channel.end()
        await made.running

        await call

        assert sink.steps == [[token("a", 2, FinishReason.STOP)]]


async def test_an_answer_that_was_not_complete_fails_when_the_socket_ends() -> None:
    async with linked() as made:
        call = generate(made, "a", Recorder())
        await made.channel.commands.get()
        made.channel.end()

        with pytest.raises(LinkBroken):
            await call


async def test_a_call_after_the_end_fails_at_once() -> None:
    async with linked() as made:
        made.channel.end()
        await made.running

        with pytest.raises(LinkBroken):
            await made.link.generate(request("a"), Recorder())


async def test_a_command_that_cannot_be_sent_breaks_the_link_and_is_raised() -> None:
    async with linked() as made:
        made.channel.send_error = ValueError("too large")
        call = generate(made, "a", Recorder())

        with pytest.raises(ValueError, match="too large"):
            await made.running
        with pytest.raises(LinkBroken):
            await call


async def test_who_is_held_is_told_and_goes_on_when_it_is_resumed() -> None:
    async with linked() as made:
        call = generate(made, "a", Recorder())
        await made.channel.commands.get()
        made.channel.step(held=("a", "unknown"))
        assert await made.held.get() == "a"
        assert made.link.held_ids == ("a",)

        made.link.resume("a", Stamp(0, 0))
        made.link.resume("unknown", Stamp(0, 0))

        assert (await made.channel.commands.get()).resumed == [("a", Stamp(0, 0))]
        assert made.link.held_ids == ()
        call.cancel()


async def test_one_that_is_moved_ends_with_the_word_of_the_engine() -> None:
    async with linked() as made:
        call = generate(made, "a", Recorder())
        await made.channel.commands.get()

        made.link.move("a")
        made.link.move("unknown")
        assert (await made.channel.commands.get()).moved == ["a"]
        made.channel.step(SequenceOutput("a", finish_reason=FinishReason.MOVED, num_served_tokens=7))
        await call

        assert made.served == {"a": 7}


async def test_without_a_queue_nobody_is_held() -> None:
    async with linked() as made:
        call = generate(made, "a", Recorder())
        await made.channel.commands.get()
        made.channel.step(held=("a",))
        await made.held.get()

        made.link.hold_displaced(False)

        command = await made.channel.commands.get()
        assert (command.holds_displaced, command.resumes_all) == (False, True)
        assert made.link.held_ids == ()
        call.cancel()


async def test_a_queue_that_is_back_before_the_engine_heard_that_it_was_gone_leaves_nobody_held() -> None:
    async with linked() as made:
        call = generate(made, "a", Recorder())
        await made.channel.commands.get()
        made.channel.step(held=("a",))
        await made.held.get()

        made.link.hold_displaced(False)
        made.link.hold_displaced(True)

        command = await made.channel.commands.get()
        assert (command.holds_displaced, command.resumes_all) == (True, True)
        call.cancel()
