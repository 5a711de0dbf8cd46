"""Owns the text of one choice as it grows: tokens in, text that may be shown out. Knows nothing of models or HTTP.

It runs on the event loop: one token costs a small part of what handing it to a thread would.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deployments.api.model_service import Detokenizer
from engine.protocol import FinishReason


class StopFilter(Protocol):
    """Holds back text that may begin a stop string. Once `is_stopped`, nothing more comes out."""

    @property
    def is_stopped(self) -> bool: ...

    def push(self, text: str) -> str: ...

    def finish(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step may show. offsets: where the text of each of the first `len(offsets)` tokens begins."""

    text: str
    offsets: list[int] = field(default_factory=list)
    is_stopped: bool = False


class TextAssembly:
    """Detokenises and applies stops.

    silent_ids: ends of a sequence; they show nothing themselves. min_tokens: the text of so many tokens stops nothing.
    """

    def __init__(
        self, detokenizer: Detokenizer, stops: StopFilter, silent_ids: Collection[int] = (), *, min_tokens: int = 0
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = stops
        self._silent_ids = frozenset(silent_ids)
        self._min_tokens = min_tokens
        self._num_tokens = 0
        self._num_chars = 0

    def push(self, token_ids: Sequence[int], finish_reason: FinishReason | None) -> Piece:
        """The text that the step adds; with a finish reason, everything that was held back as well."""
        shown: list[str] = []
        offsets: list[int] = []
        for token_id in token_ids:
            self._num_tokens += 1
            offsets.append(self._num_chars)
            shown.append(self._shown(self._text(token_id)))
            if self._stops.is_stopped:
                return Piece("".join(shown), offsets, is_stopped=True)
        if finish_reason is not None:
            shown.append(self._rest())
        return Piece("".join(shown), offsets, self._stops.is_stopped)

    def _text(self, token_id: int) -> str:
        return "" if token_id in self._silent_ids else self._detokenizer.push([token_id])

    def _shown(self, text: str) -> str:
        self._num_chars += len(text)
        return text if self._num_tokens <= self._min_tokens else self._stops.push(text)

    def _rest(self) -> str:
        text = self._shown(self._detokenizer.finish())
        return text if self._stops.is_stopped else text + self._stops.finish()
