"""Owns text as it grows: tokens to characters, and where a stop string ends them. Knows nothing of models or requests.

Everything here is plain data between two pushes: `copy.copy` and pickle keep the state of a half-told answer.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from engine.token_bytes import TokenBytes

_MAX_CHARACTER_BYTES = 4


class IncrementalDetokenizer:
    """Tokens in, text out, and never half a character: an unfinished one is held back until its last byte is there.

    Bytes that can never become a character come out as U+FFFD, as they do when the whole answer is decoded at once.
    A prompt that ends inside a character lends its bytes to the first one of the answer.
    """

    __slots__ = ("_held", "_skip_special", "_table")

    def __init__(
        self, table: TokenBytes, prompt_token_ids: Sequence[int] = (), *, skip_special_tokens: bool = True
    ) -> None:
        self._table = table
        self._skip_special = skip_special_tokens
        self._held = b""
        self.push(prompt_token_ids[-_MAX_CHARACTER_BYTES:])

    def push(self, token_ids: Sequence[int]) -> str:
        """The characters that these tokens complete."""
        return self._decode(b"".join(map(self._bytes, token_ids)), is_last=False)

    def finish(self) -> str:
        """What was held back: U+FFFD for a character that never became whole."""
        return self._decode(b"", is_last=True)

    def _bytes(self, token_id: int) -> bytes:
        if self._skip_special and token_id in self._table.special_ids:
            return b""
        return self._table[token_id]

    def _decode(self, new: bytes, *, is_last: bool) -> str:
        data = self._held + new
        text, num_used = codecs.utf_8_decode(data, "replace", is_last)
        self._held = data[num_used:]
        return text


@dataclass(frozen=True, slots=True)
class _Match:
    """A stop string in a text; the earliest to be complete comes first, then the one that began earliest."""

    end: int
    start: int


class StopStrings:
    """Ends a text before the first stop string that it completes, and holds back whatever may still become one.

    The outcome does not depend on how the text was cut into pushes.

    Raises:
        ValueError: a stop string is empty.
    """

    __slots__ = ("_held", "_stopped", "_stops")

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ValueError("stop: expected strings of at least one character, got an empty one")
        self._stops = tuple(stops)
        self._held = ""
        self._stopped = False

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found; nothing comes out after it."""
        return self._stopped

    def push(self, text: str) -> str:
        """What may be shown now."""
        if self._stopped:
            return ""
        text = self._held + text
        match = self._first_match(text)
        if match is not None:
            self._stopped, self._held = True, ""
            return text[: match.start]
        num_shown = len(text) - self._num_held(text)
        self._held = text[num_shown:]
        return text[:num_shown]

    def finish(self) -> str:
        """The text has ended: what was held back is no stop string after all."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> _Match | None:
        starts = [(stop, text.find(stop)) for stop in self._stops]
        matches = [_Match(start + len(stop), start) for stop, start in starts if start >= 0]
        return min(matches, key=lambda match: (match.end, match.start), default=None)

    def _num_held(self, text: str) -> int:
        """The length of the longest end of `text` that a stop string begins with."""
        return max((_overlap(text, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)
