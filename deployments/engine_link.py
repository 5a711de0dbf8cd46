"""A replica's link to its rank 0: many calls, one socket, one message a step each way. Knows no Ray and no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol

from engine.protocol import CommandMessage, EngineRequest, EngineStats, SequenceOutput, StepMessage


class StepChannel(Protocol):
    """The replica's end of the socket."""

    async def send(self, command: CommandMessage) -> None: ...

    def __aiter__(self) -> AsyncIterator[StepMessage]: ...


class LinkBroken(Exception):
    """Rank 0 is gone in the middle of a call. The replica turns it into a failure that the ingress can act on."""


class _Stream:
    """What one call has not read yet; holds at most one sequence's tokens, which max_tokens bounds."""

    __slots__ = ("arrived", "is_broken", "outputs")

    def __init__(self) -> None:
        self.is_broken = False
        self.outputs: list[SequenceOutput] = []
        self.arrived = asyncio.Event()

    def put(self, output: SequenceOutput) -> None:
        self.outputs.append(output)
        self.arrived.set()

    def break_off(self) -> None:
        self.is_broken = True
        self.arrived.set()

    async def take(self) -> list[SequenceOutput]:
        """What has come since the last time; nothing only when the link has broken."""
        await self.arrived.wait()
        if not self.is_broken:
            self.arrived.clear()
        outputs, self.outputs = self.outputs, []
        return outputs


class EngineLink:
    """Sends what happened since the last message as one command, and sorts each step's outputs to their calls.

    on_finished: told the lease id when the engine has ended a sequence, whoever asked for that.
    """

    def __init__(self, channel: StepChannel, on_finished: Callable[[str], None]) -> None:
        self._channel = channel
        self._on_finished = on_finished
        self._streams: dict[str, _Stream] = {}
        self._added: list[EngineRequest] = []
        self._cancelled: list[str] = []
        self._told = asyncio.Event()
        self._broken = False
        self.stats = EngineStats()

    @property
    def lease_ids(self) -> tuple[str, ...]:
        """The leases that the engine works on now."""
        return tuple(self._streams)

    async def run(self) -> None:
        """Keep both directions going until either ends; every call still open then gets `LinkBroken`.

        Raises:
            Exception: whatever the channel raised.
        """
        directions = [asyncio.create_task(self._speak()), asyncio.create_task(self._listen())]
        try:
            done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for direction in done:
                direction.result()
        finally:
            self.break_off()
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[SequenceOutput, None]:
        """The outputs of one sequence. Closing the generator takes the sequence off the engine.

        Raises:
            LinkBroken: rank 0 ended before the sequence did.
        """
        lease_id = request.lease_id
        stream = self._streams[lease_id] = _Stream()
        if self._broken:
            stream.break_off()
        self._added.append(request)
        self._told.set()
        finished = False
        try:
            while not finished:
                outputs = await stream.take()
                if stream.is_broken and not outputs:
                    raise LinkBroken("the engine of this replica has ended")
                for output in outputs:
                    finished = output.finish_reason is not None
                    yield output
        finally:
            if not finished:
                self._cancel(lease_id)

    def break_off(self) -> None:
        """Wake every open call: nothing more will come."""
        self._broken = True
        for stream in self._streams.values():
            stream.break_off()

    def _cancel(self, lease_id: str) -> None:
        if self._streams.pop(lease_id, None) is not None:
            self._cancelled.append(lease_id)
            self._told.set()
            self._on_finished(lease_id)

    async def _listen(self) -> None:
        async for message in self._channel:
            self._sort(message)

    async def _speak(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            command = CommandMessage(self._added, self._cancelled)
            self._added, self._cancelled = [], []
            await self._channel.send(command)

    def _sort(self, message: StepMessage) -> None:
        self.stats = message.stats
        for output in message.outputs:
            stream = self._streams.get(output.lease_id)
            if stream is None:
                continue
            stream.put(output)
            if output.finish_reason is not None:
                del self._streams[output.lease_id]
                self._on_finished(output.lease_id)
