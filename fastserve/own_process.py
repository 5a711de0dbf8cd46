"""Runs one function in a process of its own, for a limited time. Knows nothing of what it computes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Result = TypeVar("Result")


class PartFailed(Exception):
    """The function raised, its process ended, or it took too long; the message says which."""


def in_process(work: Callable[..., Result], *args: Any, timeout_s: float) -> Result:
    """What `work(*args)` returns there. All of it can be pickled. The process is gone afterwards.

    Raises:
        PartFailed: it gave no result.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_run, args=(there, work, args), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(timeout_s):
            raise PartFailed(f"no result after {timeout_s:g} s")
        outcome = here.recv()
    except EOFError:
        process.join()
        raise PartFailed(f"its process ended with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if isinstance(outcome, PartFailed):
        raise outcome
    result: Result = outcome
    return result


def _run(there: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """A fault's traceback goes to the standard error of this process, its first line to the parent."""
    try:
        result = work(*args)
    except BaseException as fault:
        there.send(PartFailed(": ".join([type(fault).__name__, *str(fault).splitlines()[:1]])))
        raise
    there.send(result)
