"""Many calls over one socket: sorted, cancelled, and told when it breaks. Against a channel in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from deployments.engine_link import EngineLink, LinkBroken
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

    def step(self, *outputs: SequenceOutput) -> None:
        self.steps.put_nowait(StepMessage(list(outputs), EngineStats()))

    def end(self) -> None:
        self.steps.put_nowait(None)


class Linked:
    """A running link and what it said of finished leases."""

    def __init__(self) -> None:
        self.channel = InMemoryChannel()
        self.finished: list[str] = []
        self.link = EngineLink(self.channel, self.finished.append)
        self.running = asyncio.create_task(self.link.run())


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


async def read_all(link: EngineLink, lease_id: str) -> list[int]:
    return [token_id async for output in link.generate(request(lease_id)) for token_id in output.token_ids]


async def test_each_call_gets_its_own_outputs() -> None:
    async with linked() as made:
        a, b = (asyncio.create_task(read_all(made.link, lease_id)) for lease_id in ("a", "b"))
        await made.channel.commands.get()

        made.channel.step(token("a", 1), token("b", 7))
        made.channel.step(token("b", 8, FinishReason.STOP), token("a", 2, FinishReason.LENGTH))

        assert (await a, await b) == ([1, 2], [7, 8])
        assert made.finished == ["b", "a"]


async def test_closing_a_call_takes_it_off_the_engine() -> None:
    async with linked() as made:
        outputs = made.link.generate(request("a"))
        first = asyncio.ensure_future(anext(outputs))
        await made.channel.commands.get()
        made.channel.step(token("a", 1))
        await first

        await outputs.aclose()

        assert (await made.channel.commands.get()).cancelled == ["a"]
        assert made.finished == ["a"]
        assert made.link.lease_ids == ()


async def test_an_answer_that_was_complete_when_the_socket_ended_is_read_to_its_end() -> None:
    async with linked() as made:
        outputs = made.link.generate(request("a"))
        first = asyncio.ensure_future(anext(outputs))
        await made.channel.commands.get()
        made.channel.step(token("a", 1))
        await first
        made.channel.step(token("a", 2, FinishReason.STOP))
        made.channel.end()
        await made.running

        assert [output.token_ids async for output in outputs] == [[2]]


async def test_an_answer_that_was_not_complete_fails_when_the_socket_ends() -> None:
    async with linked() as made:
        reading = asyncio.create_task(read_all(made.link, "a"))
        await made.channel.commands.get()
        made.channel.end()

        with pytest.raises(LinkBroken):
            await reading


async def test_a_call_after_the_end_fails_at_once() -> None:
    async with linked() as made:
        made.channel.end()
        await made.running

        with pytest.raises(LinkBroken):
            await read_all(made.link, "a")


async def test_a_command_that_cannot_be_sent_breaks_the_link_and_is_raised() -> None:
    async with linked() as made:
        made.channel.send_error = ValueError("too large")
        reading = asyncio.create_task(read_all(made.link, "a"))

        with pytest.raises(ValueError, match="too large"):
            await made.running
        with pytest.raises(LinkBroken):
            await reading
