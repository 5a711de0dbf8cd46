from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from fastserve.one_at_a_time import StillBusy, one_at_a_time

BOUND_S = 30.0


class Telling:
    """A console's file that calls back with what it is told."""

    def __init__(self, told: Callable[[str], object]) -> None:
        self.write = told

    def flush(self) -> None:
        pass


def console_of(told: Callable[[str], object]) -> Console:
    return Console(file=Telling(told), width=200)  # type: ignore[arg-type]


@pytest.fixture
def holder(tmp_path: Path) -> threading.Event:
    """Somebody else holds the lock until this is set."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(tmp_path / "lock"):
            held.set()
            release.wait(BOUND_S)

    threading.Thread(target=hold, daemon=True).start()
    assert held.wait(BOUND_S)
    return release


def test_who_waits_says_so_and_goes_on_when_the_other_is_done(tmp_path: Path, holder: threading.Event) -> None:
    said: list[str] = []

    def told(text: str) -> None:
        said.append(text)
        holder.set()

    with one_at_a_time(tmp_path / "lock", "make tea", BOUND_S, console_of(told)):
        assert "waiting for another process: make tea" in "".join(said)


def test_who_has_waited_long_enough_says_what_holds_it_up(tmp_path: Path, holder: threading.Event) -> None:
    with (
        pytest.raises(StillBusy, match=r"lock for more than 0\.01 s \(make tea\)"),
        one_at_a_time(tmp_path / "lock", "make tea", 0.01, console_of(len)),
    ):
        raise AssertionError("the lock was held")
    holder.set()


def test_who_finds_nobody_says_nothing_and_leaves_the_lock_free(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        with one_at_a_time(tmp_path / "lock", "make tea", BOUND_S, console_of(said.append)):
            pass
    assert said == []
