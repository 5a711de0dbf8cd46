"""Owns that one process does a piece of work while others wait, not for ever. Knows nothing of the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console


class StillBusy(Exception):
    """Another process has held the lock for as long as this one would wait. For whoever wanted to do the work."""

    def __init__(self, work: str, lock: Path, within_s: float) -> None:
        super().__init__(f"another process holds {lock} for more than {within_s:g} s ({work}): end it and try again")


@contextmanager
def one_at_a_time(lock: Path, work: str, within_s: float, console: Console | None = None) -> Iterator[None]:
    """Holds `lock`; says so once, on standard error unless told otherwise, when another process has it.

    Raises:
        StillBusy: after `within_s` seconds.
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        (console or Console(stderr=True)).print(f"waiting for another process: {work}", markup=False, soft_wrap=True)
        _wait(held, work, lock, within_s)
    try:
        yield
    finally:
        held.release()


def _wait(held: FileLock, work: str, lock: Path, within_s: float) -> None:
    try:
        held.acquire(timeout=within_s)
    except Timeout:
        raise StillBusy(work, lock, within_s) from None
