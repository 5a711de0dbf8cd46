"""Owns the watch over a step that does not end: a rank stuck in a kernel or a collective. Knows nothing of engines.

A hung step raises nothing, and nothing else in the process gets on. So a thread looks at the clock and ends the
process; the other ranks end by their lifelines, and the replica is replaced.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

#: A step may take its timeout once for each of so many tokens that it has begun.
TOKENS_PER_TIMEOUT = 512
_MAX_LOOK_INTERVAL_S = 1.0
_MAX_LATE_S = 1.0  # of a look; what is more is a pause
_log = logging.getLogger(__name__)


def end_hung_process() -> NoReturn:
    """Ends this process at once: the thread that hangs cannot be reached by an exception."""
    os._exit(1)


class StepWatchdog:
    """Calls `on_hang`, once and in a thread of its own, when a step has run for longer than it may."""

    def __init__(
        self,
        step_timeout_s: float,
        on_hang: Callable[[], object] = end_hung_process,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step_timeout_s = step_timeout_s
        self._on_hang = on_hang
        self._clock = clock
        self._step: tuple[float, int] | None = None  # when it began, and its tokens
        self._interval_s = min(_MAX_LOOK_INTERVAL_S, step_timeout_s / 4)
        self._looked_s = clock()
        self._paused_s = 0.0
        self._closed = threading.Event()

    def start(self) -> None:
        self._looked_s = self._clock()
        threading.Thread(target=self._look, name="step-watchdog", daemon=True).start()

    def close(self) -> None:
        """No step is watched any more."""
        self._closed.set()

    @contextmanager
    def watching(self, num_tokens: int) -> Iterator[None]:
        """A step over so many tokens runs inside."""
        self._step = (self._ran_s(), num_tokens)
        try:
            yield
        finally:
            self._step = None

    def limit_s(self, num_tokens: int) -> float:
        """How long a step over so many tokens may run."""
        return self._step_timeout_s * max(1, -(-num_tokens // TOKENS_PER_TIMEOUT))

    def overdue(self) -> str | None:
        """What hangs; None while nothing does."""
        step = self._step  # read once: the thread that runs steps changes it
        if step is None:
            return None
        began_s, num_tokens = step
        running_s, limit_s = self._ran_s() - began_s, self.limit_s(num_tokens)
        if running_s <= limit_s:
            return None
        return f"a step over {num_tokens} tokens has not ended in {running_s:.1f} s, {limit_s:g} s is its limit"

    def look(self) -> str | None:
        """What hangs now. A look that comes far too late follows a pause of the whole process, where its container or
        its host was frozen: the step did not run meanwhile, and that time is not counted."""
        now_s = self._clock()
        late_s = now_s - self._looked_s - self._interval_s
        if late_s > _MAX_LATE_S:
            self._paused_s += late_s
        self._looked_s = now_s
        return self.overdue()

    def _ran_s(self) -> float:
        return self._clock() - self._paused_s

    def _look(self) -> None:
        while not self._closed.wait(self._interval_s):
            if (hang := self.look()) is not None:
                _log.critical("%s (step_timeout_s): a rank hangs; ending this process", hang)
                self._on_hang()
                return
