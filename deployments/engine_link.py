"""A replica's link to its rank 0: many calls, one socket, one message a step each way. Knows no Ray and no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from engine.protocol import CommandMessage, EngineRequest, EngineStats, SequenceOutput, StepMessage
from scheduling.score import Stamp


class StepChannel(Protocol):
    """The replica's end of the socket."""

    async def send(self, command: CommandMessage) -> None: ...

    def __aiter__(self) -> AsyncIterator[StepMessage]: ...


class Sink(Protocol):
    """Where the outputs of some calls go: one call of `put` for each step. enter: a suspect is computed from now on."""

    def put(self, outputs: list[SequenceOutput]) -> None: ...

    def enter(self, lease_id: str) -> None: ...


class LinkBroken(Exception):
    """Rank 0 is gone in the middle of a call. The replica turns it into a failure that the ingress can act on."""


class SinkGone(Exception):
    """Nobody reads the outputs of a call any more; it has been taken off the engine."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One sequence that the engine works on. `ended` is done when nothing more will come."""

    sink: Sink
    ended: asyncio.Future[None]

    def fail(self, failure: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(failure)


class EngineLink:
    """Sends what happened since the last message as one command, and sorts each step's outputs to their sinks.

    on_finished: told the lease id when the engine has ended a sequence, and how many tokens it was served; of one that
    was cancelled at once, and again with the number when the engine has said it.
    on_held: told the lease id of a sequence that gave way to a newcomer, and waits for `resume`.
    on_fallen: told the lease id of a sequence whose level has changed, and the level.
    """

    def __init__(
        self,
        channel: StepChannel,
        on_finished: Callable[[str, int | None], None],
        on_held: Callable[[str], None] = lambda lease_id: None,
        on_fallen: Callable[[str, int], None] = lambda lease_id, level: None,
    ) -> None:
        self._channel = channel
        self._on_finished = on_finished
        self._on_held = on_held
        self._on_fallen = on_fallen
        self._held: dict[str, None] = {}
        self._dropped: set[str] = set()  # cancelled, and the engine has yet to say what they were served
        self._command = CommandMessage()
        self._calls: dict[str, _Call] = {}
        self._told = asyncio.Event()
        self._broken = False
        self.stats = EngineStats()

    @property
    def lease_ids(self) -> tuple[str, ...]:
        """The leases that the engine works on now."""
        return tuple(self._calls)

    @property
    def held_ids(self) -> tuple[str, ...]:
        """Those of them that gave way to others and wait for `resume`."""
        return tuple(self._held)

    def resume(self, lease_id: str, stamp: Stamp) -> None:
        """One that was held may go on, under this stamp; an unknown id is fine."""
        if self._held.pop(lease_id, 0) is None:
            self._command.resumed.append((lease_id, stamp))
            self._told.set()

    def move(self, lease_id: str) -> None:
        """The engine gives it up, because another will take it over; an unknown id is fine."""
        if lease_id in self._calls:
            self._command.moved.append(lease_id)
            self._told.set()

    def hold_displaced(self, holds: bool) -> None:
        """Whether those who give way to newcomers wait for `resume`; if not, those who do now go on."""
        if not holds:
            self._held.clear()
        resumes_all = self._command.resumes_all or not holds  # also where it has not gone out when they are held again
        self._command = replace(self._command, holds_displaced=holds, resumes_all=resumes_all)
        self._told.set()

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

    async def generate(self, request: EngineRequest, sink: Sink) -> None:
        """Returns when the sequence has ended; its outputs go to `sink`. Cancelling takes it off the engine.

        Raises:
            LinkBroken: rank 0 ended before the sequence did.
            SinkGone: `forsake` was told so of the sink.
        """
        call = _Call(sink, asyncio.get_running_loop().create_future())
        if self._broken:
            raise _engine_ended()
        self._calls[request.lease_id] = call
        self._command.added.append(request)
        self._told.set()
        try:
            await call.ended
        except asyncio.CancelledError:
            self._cancel(request.lease_id)
            raise

    def forsake(self, sink: Sink) -> None:
        """Nobody reads `sink` any more: its calls are taken off the engine."""
        for lease_id in [lease_id for lease_id, call in self._calls.items() if call.sink is sink]:
            self._calls[lease_id].fail(SinkGone("the ingress that asked is gone"))
            self._cancel(lease_id)

    def break_off(self) -> None:
        """Wake every open call: nothing more will come."""
        self._broken = True
        for call in self._calls.values():
            call.fail(_engine_ended())

    def _cancel(self, lease_id: str) -> None:
        if self._calls.pop(lease_id, None) is not None:
            self._held.pop(lease_id, None)
            self._command.cancelled.append(lease_id)
            self._dropped.add(lease_id)
            self._told.set()
            self._on_finished(lease_id, None)

    async def _listen(self) -> None:
        async for message in self._channel:
            self._sort(message)

    async def _speak(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            command, self._command = self._command, CommandMessage()
            await self._channel.send(command)

    def _sort(self, message: StepMessage) -> None:
        self.stats = message.stats
        for lease_id in message.held:
            self._hold(lease_id)
        for lease_id in message.entering:
            if (call := self._calls.get(lease_id)) is not None:
                call.sink.enter(lease_id)
        for lease_id, level in message.fallen:
            if lease_id in self._calls:
                self._on_fallen(lease_id, level)
        by_sink: dict[Sink, list[SequenceOutput]] = {}
        for output in message.outputs:
            if (call := self._calls.get(output.lease_id)) is not None:
                by_sink.setdefault(call.sink, []).append(output)
        for sink, outputs in by_sink.items():
            sink.put(outputs)
        for output in message.outputs:
            if output.finish_reason is not None:
                self._finish(output.lease_id, output.num_served_tokens)

    def _hold(self, lease_id: str) -> None:
        if lease_id in self._calls:
            self._held[lease_id] = None
            self._on_held(lease_id)

    def _finish(self, lease_id: str, num_served: int | None) -> None:
        call = self._calls.pop(lease_id, None)
        if call is None:
            if lease_id in self._dropped:
                self._dropped.remove(lease_id)
                self._on_finished(lease_id, num_served)
            return
        self._held.pop(lease_id, None)
        if not call.ended.done():
            call.ended.set_result(None)
        self._on_finished(lease_id, num_served)


def _engine_ended() -> LinkBroken:
    return LinkBroken("the engine of this replica has ended")
