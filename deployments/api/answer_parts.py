"""Owns gathering a choice's deltas into parts that are worth sending. Knows nothing of how a part is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployments.api.generation import ChoiceDelta
from engine.protocol import FinishReason, TokenLogprob


@dataclass(slots=True)
class Part:
    """A stretch of one choice: a chunk of a stream, or the whole of it.

    is_first: nothing of this choice was sent before. text_offsets and logprobs go with token_ids, one each.
    """

    index: int
    is_first: bool
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    text_offsets: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] | None = None
    finish_reason: FinishReason | None = None

    @property
    def is_worth_sending(self) -> bool:
        """Log probabilities wait for the text that they belong to."""
        return bool(self.text) or self.finish_reason is not None

    @property
    def num_logprobs(self) -> int:
        """Log probabilities to write, those of alternatives among them."""
        return sum(1 + len(one.top) for one in (*self.logprobs, *(self.prompt_logprobs or ())))

    def add(self, delta: ChoiceDelta) -> None:
        self.text += delta.text
        self.token_ids += delta.token_ids
        self.text_offsets += delta.text_offsets
        self.logprobs += delta.logprobs
        if delta.prompt_logprobs is not None:
            self.prompt_logprobs = [*(self.prompt_logprobs or []), *delta.prompt_logprobs]
        self.finish_reason = delta.finish_reason


class Gathering:
    """The parts of all choices of one answer."""

    def __init__(self) -> None:
        self._open: dict[int, Part] = {}
        self._seen: set[int] = set()

    def add(self, delta: ChoiceDelta) -> Part:
        """The part that the delta has joined."""
        part = self._open.get(delta.index)
        if part is None:
            part = self._open[delta.index] = Part(delta.index, is_first=delta.index not in self._seen)
            self._seen.add(delta.index)
        part.add(delta)
        return part

    def take(self, part: Part) -> Part:
        """Ends the part: what comes next begins a new one."""
        del self._open[part.index]
        return part

    def whole(self) -> list[Part]:
        """Every part, by index: with none taken, each is a whole choice."""
        return [part for _, part in sorted(self._open.items())]
