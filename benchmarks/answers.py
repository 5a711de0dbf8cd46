"""Owns what a client saw of one streamed completion: when its text came, and how many tokens it was. Opens nothing."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from benchmarks.event_stream import Arrival, Event, events

_DONE = b"[DONE]"


class AnswerBroken(Exception):
    """The stream is no whole answer of the length that was asked for; the message says how. Counts as failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. text_times_s: when each event with text came; all times are of one clock."""

    started_s: float
    text_times_s: tuple[float, ...]
    num_prompt_tokens: int
    num_output_tokens: int

    @property
    def ttft_s(self) -> float:
        return self.text_times_s[0] - self.started_s

    @property
    def tpot_s(self) -> float | None:
        """The mean time per output token after the first; None where there is no other."""
        if self.num_output_tokens < 2:
            return None
        return (self.text_times_s[-1] - self.text_times_s[0]) / (self.num_output_tokens - 1)

    def tokens_until(self, at_s: float) -> float:
        """Output tokens that had come by then; where an event holds several, each event the same."""
        num_events = bisect.bisect_right(self.text_times_s, at_s)
        return num_events * self.num_output_tokens / len(self.text_times_s)

    @property
    def gaps_s(self) -> list[float]:
        """Between one event with text and the next."""
        return [later - sooner for sooner, later in itertools.pairwise(self.text_times_s)]


class _Choice(msgspec.Struct):
    text: str = ""


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Error(msgspec.Struct):
    message: str


class _Piece(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


def read_answer(started_s: float, arrivals: Sequence[Arrival], num_output_tokens: int) -> Answer:
    """The answer that a recorded stream holds.

    Raises:
        AnswerBroken: an error event, no end, no usage, no text, or another number of tokens than was asked for.
    """
    pieces = _pieces(list(events(arrivals)))
    usage = next((piece.usage for _, piece in reversed(pieces) if piece.usage is not None), None)
    times = tuple(at_s for at_s, piece in pieces if any(choice.text for choice in piece.choices))
    if usage is None or not times:
        raise AnswerBroken(f"expected text and its usage, got {len(times)} pieces of text and usage {usage}")
    if usage.completion_tokens != num_output_tokens:
        raise AnswerBroken(f"expected {num_output_tokens} output tokens, got {usage.completion_tokens}")
    return Answer(started_s, times, usage.prompt_tokens, usage.completion_tokens)


def _pieces(stream: Sequence[Event]) -> list[tuple[float, _Piece]]:
    """When each JSON object of the stream came, and what it says."""
    decode = msgspec.json.Decoder(_Piece).decode
    try:
        pieces = [(event.at_s, decode(event.data)) for event in stream if event.data != _DONE]
    except msgspec.DecodeError as error:
        raise AnswerBroken(f"an event that is no completion: {error}") from None
    for _, piece in pieces:
        if piece.error is not None:
            raise AnswerBroken(piece.error.message)
    if not stream or stream[-1].data != _DONE:
        raise AnswerBroken(f"the stream broke off after {len(pieces)} events")
    return pieces
