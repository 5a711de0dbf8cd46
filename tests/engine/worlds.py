"""Runs one function on every rank of a small world, each in a process of its own, and never waits for ever."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import queue
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

TIMEOUT_S = 240.0
_PR_SET_PDEATHSIG = 1
_spawn = multiprocessing.get_context("spawn")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class RankWorld:
    """Processes that run `function(rank, port, put, *args)`; `put` brings a result here. All are gone afterwards."""

    function: Callable[..., None]
    size: int
    args: tuple[Any, ...] = ()
    port: int = field(default_factory=free_port)
    processes: list[BaseProcess] = field(default_factory=list)
    _results: Any = field(default_factory=_spawn.Queue)

    def __enter__(self) -> RankWorld:
        for rank in range(self.size):
            args = (self.function, rank, self.port, self._results, self.args)
            self.processes.append(_spawn.Process(target=_run, args=args, daemon=True))
            self.processes[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
            process.join(TIMEOUT_S)

    def results(self) -> list[Any]:
        """One result of every rank, by rank."""
        found = dict(self._result() for _ in range(self.size))
        return [found[rank] for rank in range(self.size)]

    def join(self, timeout_s: float = TIMEOUT_S) -> list[int | None]:
        """Exit codes by rank; None: it is still there."""
        for process in self.processes:
            process.join(timeout_s)
        return [process.exitcode for process in self.processes]

    def _result(self) -> tuple[int, Any]:
        try:
            found: tuple[int, Any] = self._results.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise TimeoutError(f"no result; exit codes {[process.exitcode for process in self.processes]}") from None
        return found


def _run(function: Callable[..., None], rank: int, port: int, results: Any, args: tuple[Any, ...]) -> None:
    if sys.platform.startswith("linux"):  # ranks that wait for each other at full speed do not notice that it has gone
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ["OMP_NUM_THREADS"] = "1"
    function(rank, port, lambda result: results.put((rank, result)), *args)
