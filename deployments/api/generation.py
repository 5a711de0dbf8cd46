"""Owns one choice of an answer: drives the model, turns tokens into text, applies stops. Knows nothing of HTTP.

Only a terminal message ends an answer. `Choice` keeps everything that a later attempt would need to go on from the
next token: the token ids, the detokeniser's and the stops' state, the seed (inside the call).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from deployments.api.moves import Moves
from deployments.api.text_assembly import TextAssembly
from deployments.errors import GenerationFailed, GrammarTooComplex, ReplicaFailed
from deployments.generate_call import Entered, GenerateCall, GenerationEvent, ModelHandle, Started
from engine.protocol import FinishReason, SequenceOutput, TokenLogprob
from scheduling.score import Stamp


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
    """One choice while it is generated. `token_ids` holds every token received so far, over all attempts.

    grammar_param: the field that the grammar of the answer came from.
    """

    index: int
    call: GenerateCall
    assembly: TextAssembly
    moves: Moves = field(default_factory=Moves)
    grammar_param: str | None = None
    token_ids: list[int] = field(default_factory=list)
    is_started: bool = False

    def has_started(self) -> bool:
        """Whether a replica had taken it before; from now on one has."""
        before, self.is_started = self.is_started, True
        return before


async def generate_choice(handle: ModelHandle, choice: Choice) -> AsyncGenerator[ChoiceEvent, None]:
    """The events of one choice, the last with a finish reason. Closing it reaches the engine.

    A sequence that its engine gave up in favour of another replica goes on there from its next token, and so does one
    that has lost its replica.

    Raises:
        ReplicaFailed: it lost too many replicas, or was moved too often.
        PoisonRequest: replicas die of it.
        GenerationFailed: the engine gave this sequence up.
        GrammarTooComplex: it did, for what the grammar asks for.
        Exception: whatever else the handle raises before `Started`.
    """
    moves = choice.moves
    while True:
        attempt, failure = _Attempt(), None
        try:
            async with aclosing(_attempted(handle, choice, attempt)) as events:
                async for event in events:
                    yield event
        except ReplicaFailed as lost:
            failure = lost
        if attempt.is_complete:
            return
        if failure is None:
            moves.moved(attempt.replica_id, len(choice.token_ids))
        else:
            moves.lost(failure, len(choice.token_ids), was_computed=attempt.was_computed)
            attempt.stamp = attempt.stamp or failure.stamp
        choice.call = choice.call.continued(
            attempt.stamp, list(choice.token_ids), moves.number, is_suspect=moves.is_suspect
        )


async def _attempted(handle: ModelHandle, choice: Choice, attempt: _Attempt) -> AsyncGenerator[ChoiceEvent, None]:
    """What one replica gives, up to the end of the answer or to where it goes on elsewhere.

    Raises:
        ReplicaFailed: its stream ended before either.
    """
    async with aclosing(handle.generate(choice.call)) as events:
        async for event in events:
            if (made := attempt.take(choice, event)) is not None:
                yield made
            if attempt.is_complete or attempt.is_moved:
                return
    raise ReplicaFailed(attempt.replica_id, "its stream ended before the answer did")


@dataclass(slots=True)
class _Attempt:
    """One replica's part of an answer. stamp: from when the queue has said it."""

    replica_id: str = "unknown"
    stamp: Stamp | None = None
    was_computed: bool = False
    is_moved: bool = False
    is_complete: bool = False

    def take(self, choice: Choice, event: GenerationEvent) -> ChoiceEvent | None:
        """What the event means to the client; nothing where the answer goes on elsewhere, or has gone on here.

        Raises:
            ReplicaFailed, GenerationFailed, GrammarTooComplex: the answer cannot go on here, or not at all.
        """
        if isinstance(event, Entered):
            self.was_computed = True
            return None
        if isinstance(event, Started):
            self.replica_id, self.stamp = event.replica_id, event.stamp
            self.was_computed = not choice.call.request.is_suspect  # nobody says so of those who are not suspect
            return None if choice.has_started() else ChoiceStarted(choice.index, event)
        if event.finish_reason in (FinishReason.MOVED, FinishReason.LOST):
            return self._take_last(choice, event)
        made = _choice_event(choice, event, self.replica_id)
        self.is_complete = made.finish_reason is not None
        return made

    def _take_last(self, choice: Choice, event: SequenceOutput) -> ChoiceEvent | None:
        """What came before the answer has to go on elsewhere."""
        if event.finish_reason is FinishReason.LOST:
            raise ReplicaFailed(self.replica_id, event.error or "its engine failed", engine_ended=True)
        self.is_moved = True
        return _delta(choice, replace(event, finish_reason=None)) if event.token_ids else None


def _choice_event(choice: Choice, event: SequenceOutput, replica_id: str) -> ChoiceDelta:
    if event.finish_reason is FinishReason.ERROR:
        raise GenerationFailed(event.error or "the engine gave no reason")
    if event.finish_reason is FinishReason.GRAMMAR:
        raise GrammarTooComplex(choice.grammar_param, event.error or "the engine gave no reason")
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
