"""From a service's start to its end, with a process that only waits."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from fastserve.service_watch import watch
from fastserve.start_watch import StartOutcome

BOUND_S = 30.0


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Runs until its standard input is closed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        yield waiting
        assert waiting.stdin is not None
        waiting.stdin.close()


class Watching:
    """`watch` in a thread, and what it says."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        look: Callable[[], StartOutcome | None],
        meanwhile: Callable[[], None] = lambda: None,
        failure: OSError | None = None,
    ) -> None:
        self._meanwhile = meanwhile
        self.failure = failure
        self.stop = threading.Event()
        self.said: list[str] = []
        self.has_said = threading.Event()
        self.status: int | None = None
        self._thread = threading.Thread(target=self._run, args=(process, look), daemon=True)
        self._thread.start()

    def ended(self) -> int | None:
        self._thread.join(BOUND_S)
        return self.status

    def write(self, text: str) -> int:
        if self.failure is not None:
            self.has_said.set()
            raise self.failure
        self.said.append(text)
        self.has_said.set()
        return len(text)

    def flush(self) -> None:
        pass

    def _run(self, process: subprocess.Popen[bytes], look: Callable[[], StartOutcome | None]) -> None:
        console = Console(file=self, width=200)  # type: ignore[arg-type]
        self.status = watch(process, look, "here", self.stop, console, self._meanwhile)


def test_a_look_that_hangs_does_not_keep_the_service_from_stopping(process: subprocess.Popen[bytes]) -> None:
    looking, never = threading.Event(), threading.Event()

    def hang() -> None:
        looking.set()
        never.wait()

    watching = Watching(process, hang)
    assert looking.wait(BOUND_S)
    watching.stop.set()

    assert watching.ended() == 0
    never.set()


def test_a_service_that_is_ready_is_told_once_and_then_runs_on(process: subprocess.Popen[bytes]) -> None:
    done = threading.Semaphore(0)
    watching = Watching(process, StartOutcome, done.release)
    assert watching.has_said.wait(BOUND_S)
    while done.acquire(blocking=False):
        continue
    assert [done.acquire(timeout=BOUND_S) for _ in range(2)] == [True, True]  # it has looked once more between them
    watching.stop.set()

    assert watching.ended() == 0
    assert "".join(watching.said).count("ready after") == 1


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "the terminal is gone"), BrokenPipeError()])
def test_a_service_that_nobody_reads_of_any_more_runs_on_and_stops_as_any_other(
    process: subprocess.Popen[bytes], failure: OSError
) -> None:
    watching = Watching(process, StartOutcome, failure=failure)
    assert watching.has_said.wait(BOUND_S)
    assert process.poll() is None
    watching.stop.set()

    assert watching.ended() == 0


def test_what_is_to_be_done_meanwhile_is_done_again_and_again_while_the_service_runs(
    process: subprocess.Popen[bytes],
) -> None:
    done = threading.Semaphore(0)
    watching = Watching(process, StartOutcome, done.release)
    assert [done.acquire(timeout=BOUND_S) for _ in range(2)] == [True, True]
    watching.stop.set()

    assert watching.ended() == 0


def test_a_start_that_fails_is_told_with_its_reason(process: subprocess.Popen[bytes]) -> None:
    watching = Watching(process, lambda: StartOutcome(failure="no [bold] weights"))

    assert watching.ended() == 1
    assert "no [bold] weights" in "".join(watching.said)


def test_a_process_that_ends_by_itself_is_told_with_its_status() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) as process:
        watching = Watching(process, lambda: None)

        assert watching.ended() == 1
        assert "(exit 7)" in "".join(watching.said)
