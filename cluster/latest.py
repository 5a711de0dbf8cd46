"""Keeps the latest answer to a question that takes time, so that who needs it never waits. Knows not what is asked."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

logger = logging.getLogger("ray.serve")

T = TypeVar("T")
ASK_EVERY_S = 1.0
MIN_PAUSE = 19.0  # times as long as the answer took: asking takes no more than a twentieth of the other side's time
MAX_PAUSE_S = 5.0  # also when an answer took long because the other side was away


@dataclass(frozen=True, slots=True)
class Dated(Generic[T]):
    """An answer and when it came, on the steady clock."""

    answer: T
    came_s: float


class _Board(Generic[T]):
    """What the asking thread and the reader share; neither keeps the other alive. An assignment needs no lock."""

    def __init__(self) -> None:
        self.latest: Dated[T] | None = None
        self.ended = threading.Event()


class Latest(Generic[T]):
    """Asks again and again in a thread of its own, until this object is collected.

    ask: may take as long as it likes; None is no answer. failures: what it raises when it cannot be answered now.
    """

    def __init__(
        self,
        ask: Callable[[], T | None],
        failures: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.monotonic,
        ask_every_s: float = ASK_EVERY_S,
    ) -> None:
        self._clock = clock
        self._board: _Board[T] = _Board()
        weakref.finalize(self, self._board.ended.set)
        threading.Thread(
            target=_ask_on,
            args=(self._board, ask, failures, clock, ask_every_s),
            name="fastserve-latest",
            daemon=True,
        ).start()

    def within(self, max_age_s: float) -> T | None:
        """The latest answer; None when it is older than that, or when there was none yet."""
        latest = self._board.latest
        return None if latest is None or self._clock() - latest.came_s > max_age_s else latest.answer


def _ask_on(
    board: _Board[T],
    ask: Callable[[], T | None],
    failures: tuple[type[Exception], ...],
    clock: Callable[[], float],
    ask_every_s: float,
) -> None:
    pause_s = 0.0
    while not board.ended.wait(pause_s):
        asked_s = clock()
        try:
            answer = ask()
        except failures as error:
            logger.debug("No answer now: %r", error)
            answer = None
        if answer is not None:
            board.latest = Dated(answer, clock())
        pause_s = max(ask_every_s, min(MAX_PAUSE_S, MIN_PAUSE * (clock() - asked_s)))
