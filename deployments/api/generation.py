"""Owns one choice of an answer: drives the model, turns tokens into text, applies stops. Knows nothing of HTTP.

Only a terminal message ends an answer. `Choice` keeps everything that a later attempt would need to go on from the
next token: the token ids, the detokeniser's and the stops' state, the seed (inside the call).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from deployments.api.text_assembly import TextAssembly
from deployments.errors import GenerationFailed, ReplicaFailed
from deployments.generate_call import GenerateCall, GenerationEvent, ModelHandle, Started
from engine.protocol import FinishReason, SequenceOutput, TokenLogprob

MAX_ATTEMPTS = 16  # of one answer that is moved from replica to replica


@dataclass(frozen=True, slots=True)
class ChoiceStarted:
    """The replica has taken choice `index`."""

    index: int
    started: Started


@dataclass(frozen=True, slots=True)
class ChoiceDelta:
    """What one engine step added to choice `index`.

    text may be empty while a character or a possible stop string is incomplete. text_offsets: for each token, where its
    text begins in the choice's text. finish_reason is set on the last delta: `stop` or `length`.
    """

    index: int
    text: str
    token_ids: list[int] = field(default_factory=list)
    text_offsets: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] | None = None
    num_cached_tokens: int = 0
    finish_reason: FinishReason | None = None


ChoiceEvent = ChoiceStarted | ChoiceDelta


@dataclass(slots=True)
class Choice:
    """One choice while it is generated. `token_ids` holds every token received so far, over all attempts."""

    index: int
    call: GenerateCall
    assembly: TextAssembly
    token_ids: list[int] = field(default_factory=list)
    is_started: bool = False

    def has_started(self) -> bool:
        """Whether a replica had taken it before; from now on one has."""
        before, self.is_started = self.is_started, True
        return before


async def generate_choice(handle: ModelHandle, choice: Choice) -> AsyncGenerator[ChoiceEvent, None]:
    """The events of one choice, the last with a finish reason. Closing it reaches the engine.

    A sequence that its engine gave up in favour of another replica goes on there from its next token.

    Raises:
        ReplicaFailed: the stream ended without a terminal message, or with one that a client cannot be given.
        GenerationFailed: the engine gave this sequence up.
        Exception: whatever the handle raises before `Started`.
    """
    for num_attempts in range(1, MAX_ATTEMPTS + 1):
        attempt = _Attempt()
        async with aclosing(handle.generate(choice.call)) as events:
            async for event in events:
                if (made := attempt.take(choice, event)) is not None:
                    yield made
                    if isinstance(made, ChoiceDelta) and made.finish_reason is not None:
                        return
                if attempt.is_moved:
                    break
        if not attempt.is_moved or attempt.started is None:
            raise ReplicaFailed(attempt.replica_id, "its stream ended before the answer did")
        choice.call = choice.call.continued(attempt.started.stamp, list(choice.token_ids), num_attempts)
    raise ReplicaFailed(attempt.replica_id, f"the answer was moved {MAX_ATTEMPTS} times")


@dataclass(slots=True)
class _Attempt:
    """One replica's part of an answer."""

    started: Started | None = None
    is_moved: bool = False

    @property
    def replica_id(self) -> str:
        return "unknown" if self.started is None else self.started.replica_id

    def take(self, choice: Choice, event: GenerationEvent) -> ChoiceEvent | None:
        """What the event means to the client; nothing where the answer goes on elsewhere, or has gone on here."""
        if isinstance(event, Started):
            self.started = event
            return None if choice.has_started() else ChoiceStarted(choice.index, event)
        if event.finish_reason is FinishReason.MOVED:
            self.is_moved = True
            return _delta(choice, replace(event, finish_reason=None)) if event.token_ids else None
        return _choice_event(choice, event, self.replica_id)


def _choice_event(choice: Choice, event: SequenceOutput, replica_id: str) -> ChoiceEvent:
    if event.finish_reason is FinishReason.ERROR:
        raise GenerationFailed(event.error or "the engine gave no reason")
    if event.finish_reason is FinishReason.CANCELLED:
        raise ReplicaFailed(replica_id, f"it gave the sequence up ({event.finish_reason})")
    return _delta(choice, event)


def _delta(choice: Choice, output: SequenceOutput) -> ChoiceDelta:
    choice.token_ids += output.token_ids
    piece = choice.assembly.push(output.token_ids, output.finish_reason)
    return ChoiceDelta(
        index=choice.index,
        text=piece.text,
        token_ids=output.token_ids,
        text_offsets=piece.offsets,
        logprobs=output.logprobs,
        prompt_logprobs=output.prompt_logprobs,
        num_cached_tokens=output.num_cached_tokens,
        finish_reason=FinishReason.STOP if piece.is_stopped else output.finish_reason,
    )


async def generate_all(handle: ModelHandle, choices: Sequence[Choice]) -> AsyncGenerator[ChoiceEvent, None]:
    """The events of all choices as they come; the first failure of one ends them all. Closing it closes all."""
    streams = [generate_choice(handle, choice) for choice in choices]
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for event in only:
                yield event
        return
    waits: dict[asyncio.Task[ChoiceEvent | None], AsyncGenerator[ChoiceEvent, None]] = {}
    try:
        waits |= {asyncio.create_task(_next(stream)): stream for stream in streams}
        while waits:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                stream = waits.pop(wait)
                if (merged := wait.result()) is not None:
                    waits[asyncio.create_task(_next(stream))] = stream
                    yield merged
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        await asyncio.gather(*(stream.aclose() for stream in streams))


async def _next(stream: AsyncGenerator[ChoiceEvent, None]) -> ChoiceEvent | None:
    return await anext(stream, None)
