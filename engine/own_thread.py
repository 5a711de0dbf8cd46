"""Owns one thread on which all calls are made, whichever thread asks. Knows nothing of what they do.

OpenMP keeps a team of threads for each thread that computes. With two teams it counts more threads than cores, and has
them sleep at every barrier instead of waiting a moment: a step then takes half as long again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

Result = TypeVar("Result")
Given = ParamSpec("Given")


class OwnThread:
    """It never holds up the end of its process."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def call(self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Runs `function` there after the calls before it; returns what it returns, raises what it raises."""
        outcome: Future[Result] = Future()

        def run() -> None:
            try:
                outcome.set_result(function(*args, **kwargs))
            except BaseException as error:
                outcome.set_exception(error)

        self._calls.put(run)
        return outcome.result()

    def _run(self) -> None:
        while True:
            self._calls.get()()
