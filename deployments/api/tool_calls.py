"""Owns reading calls of tools out of an answer's text as it grows. Knows no grammar, though it relies on one.

The grammar lets a call have one form only (`constraints.py`), so that reading one takes no JSON parser: no line break
can stand in the arguments, and `}`, a line break and `</tool_call>` end them. Only where the answer ends with a `}` of
which nobody can tell otherwise whether it is theirs, they are parsed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from deployments.api.constraints import ARGUMENTS_BEGIN, CALL_BEGINS, CALL_ENDS, TRIGGER


@dataclass(frozen=True, slots=True)
class CallBegins:
    """The model calls the function `name`; its arguments follow."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """More of the arguments of call `index`."""

    index: int
    text: str


AnswerPiece = str | CallBegins | Arguments


class CallReader:
    """Of one choice. Holds back what may begin a call, or end one, and blanks that may stand before a call.

    is_cut: the answer has ended within the arguments of a call.
    """

    def __init__(self) -> None:
        self.num_calls = 0
        self.is_cut = False
        self._held = ""
        self._is_in_call = False
        self._given: list[str] = []  # of the arguments of this call

    def push(self, text: str) -> list[AnswerPiece]:
        """What is sure now: text of the answer, calls that begin, and their arguments."""
        self._held += text
        pieces = []
        while (piece := self._next()) is not None:
            pieces.append(piece)
        return pieces

    def finish(self) -> list[AnswerPiece]:
        """What is left at the end of the answer. Half a call's head or tail, where the answer was cut, is nothing."""
        held, self._held = self._held, ""
        if self._is_in_call:
            self.is_cut = not (held.startswith(CALL_ENDS[:2]) or (held == CALL_ENDS[:1] and self._has_all()))
            return [Arguments(self.num_calls - 1, held)] if held and self.is_cut else []
        return [held] if held and TRIGGER not in held and not self.num_calls else []

    def _next(self) -> AnswerPiece | None:
        return self._arguments() if self._is_in_call else self._text() or self._call()

    def _text(self) -> str:
        before, begins, _ = self._held.partition(CALL_BEGINS)
        return self._taken((before if begins else self._before_any_part_of(CALL_BEGINS)).rstrip())

    def _call(self) -> AnswerPiece | None:
        name, is_known, rest = self._held.partition(CALL_BEGINS)[2].partition(ARGUMENTS_BEGIN)
        if not is_known:
            return None
        self._held, self._is_in_call, self._given = rest, True, []
        self.num_calls += 1
        return CallBegins(self.num_calls - 1, name)

    def _arguments(self) -> AnswerPiece | None:
        before, ends, rest = self._held.partition(CALL_ENDS)
        if more := self._taken(before if ends else self._before_any_part_of(CALL_ENDS)):
            self._given.append(more)
            return Arguments(self.num_calls - 1, more)
        if not ends:
            return None
        self._held, self._is_in_call = rest, False
        return self._next()

    def _has_all(self) -> bool:
        """Whether what was given of the arguments is all of them: they are an object, and nothing goes on after one."""
        try:
            json.loads("".join(self._given))
        except (ValueError, RecursionError):
            return False
        return True

    def _before_any_part_of(self, mark: str) -> str:
        """All that is held but the longest end of it that may begin the mark."""
        longest = min(len(mark), len(self._held))
        num_kept = next((length for length in range(longest, 0, -1) if self._held.endswith(mark[:length])), 0)
        return self._held[: len(self._held) - num_kept]

    def _taken(self, beginning: str) -> str:
        self._held = self._held[len(beginning) :]
        return beginning
