"""Owns learning how a start ends while its owner goes on with something else. Knows nothing of what is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class StartOutcome:
    """How a start ended. failure: why it did; None where the service is ready."""

    failure: str | None = None


#: One look, which may take seconds. None: it is not decided yet.
Look = Callable[[], StartOutcome | None]


class StartWatch:
    """Looks again and again in a thread until the start has ended, or until nobody wants to know any more.

    Leaving it waits for no look: one may hang for as long as its own time limit.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._left = threading.Event()
        self._outcome: StartOutcome | None = None

    @property
    def outcome(self) -> StartOutcome | None:
        """What the last look has found; returns at once."""
        return self._outcome

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="start-watch", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()

    def _run(self) -> None:
        while self._outcome is None and not self._left.wait(_POLL_S):
            self._outcome = self._look()
