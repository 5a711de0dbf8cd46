"""Owns text as it grows: tokens to characters, and where a stop string ends them. Knows nothing of models or requests.

Everything here is plain data between two pushes: `copy.copy` and pickle keep the state of a half-told answer.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache

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


class StopStrings:
    """Ends a text before the first stop string that it completes, and holds back whatever may still become one.

    The outcome does not depend on how the text was cut into pushes. A character costs amortised O(1) for each stop
    string, however long these are and whatever was held back (Knuth, Morris and Pratt).

    Raises:
        ValueError: a stop string is empty.
    """

    __slots__ = ("_held", "_nums_matched", "_stopped", "_stops")

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ValueError("stop: expected strings of at least one character, got an empty one")
        self._stops = tuple(stops)
        self._nums_matched = (0,) * len(self._stops)  # of each, how many characters the end of the text is
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
        if not self._held and not any(stop[0] in text for stop in self._stops):
            return text
        for num_read, character in enumerate(text, 1):
            longest = self._read(character)
            if longest:
                self._stopped, read, self._held = True, self._held + text[:num_read], ""
                return read[: len(read) - longest]
        text = self._held + text
        num_shown = len(text) - max(self._nums_matched)
        self._held = text[num_shown:]
        return text[:num_shown]

    def finish(self) -> str:
        """The text has ended: what was held back is no stop string after all."""
        held, self._held = self._held, ""
        return held

    def _read(self, character: str) -> int:
        """The length of the longest stop string that the character completes; 0 for none."""
        before = zip(self._stops, self._nums_matched, strict=True)
        self._nums_matched = tuple(_num_matched(stop, num_matched, character) for stop, num_matched in before)
        after = zip(self._stops, self._nums_matched, strict=True)
        return max((num_matched for stop, num_matched in after if num_matched == len(stop)), default=0)


def _num_matched(stop: str, num_matched: int, character: str) -> int:
    """Of a text whose end was so many characters of the stop string, once one more has come."""
    if num_matched == 0:
        return 1 if stop[0] == character else 0
    borders = _borders(stop)
    while num_matched and stop[num_matched] != character:
        num_matched = borders[num_matched - 1]
    return num_matched + 1 if stop[num_matched] == character else 0


@lru_cache(maxsize=128)
def _borders(stop: str) -> tuple[int, ...]:
    """Of each beginning, the length of the longest shorter one that it ends with."""
    borders = [0]
    for character in stop[1:]:
        num_matched = borders[-1]
        while num_matched and stop[num_matched] != character:
            num_matched = borders[num_matched - 1]
        borders.append(num_matched + 1 if stop[num_matched] == character else 0)
    return tuple(borders)
