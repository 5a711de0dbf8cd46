"""Nothing of a guarded command outlives the process that runs it, however that ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks import guarded as guarded_module
from benchmarks.guarded import Guarded
from fastserve.errors import ServerFailed
from tests.benchmarks.guarded_driver import FAMILY, NUM_MEMBERS

WAIT_S = 60.0
DRIVER = [sys.executable, "-m", "tests.benchmarks.guarded_driver"]


@contextlib.contextmanager
def running_driver(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*DRIVER, *arguments], stdout=subprocess.PIPE, text=True) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def guarded(script: str, grace_s: float = 10.0) -> Guarded:
    return Guarded([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=None, grace_s=grace_s)


def lines(process: subprocess.Popen[str], number: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(number)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_that_a_command_started_ends_with_the_process_that_ran_it(number: signal.Signals) -> None:
    with running_driver() as driver:
        assert sorted(lines(driver, NUM_MEMBERS + 1)) == ["here"] * NUM_MEMBERS + ["started"]

        driver.send_signal(number)

        driver.communicate(timeout=WAIT_S)


def test_a_command_that_is_stopped_ends_with_the_process_that_ran_it() -> None:
    with running_driver("stopped") as driver:
        assert driver.stdout is not None
        assert "started\n" in iter(driver.stdout.readline, "")

        driver.kill()

        driver.communicate(timeout=WAIT_S)


def test_nothing_of_a_command_is_left_when_it_has_been_ended() -> None:
    family = guarded(FAMILY)
    lines(family.process, NUM_MEMBERS)
    members = psutil.Process(family.process.pid).children(recursive=True)
    assert len(members) == NUM_MEMBERS

    family.end()

    assert not any(member.is_running() for member in members)


def test_a_command_that_does_not_end_when_it_is_asked_to_is_killed() -> None:
    deaf = guarded("import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()", 0.1)
    assert lines(deaf.process, 1) == ["deaf"]

    deaf.end()

    assert deaf.process.returncode == 128 + signal.SIGKILL


def test_a_command_is_first_asked_to_end() -> None:
    heeding = guarded(
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('', flush=True); signal.pause()"
    )
    lines(heeding.process, 1)

    heeding.end()

    assert heeding.process.returncode == 7


def test_the_exit_status_is_that_of_the_command() -> None:
    failing = guarded("raise SystemExit(3)")

    assert failing.process.wait(WAIT_S) == 3
    failing.end()


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ServerFailed, match=r"/no/such/python cannot be run"):
        Guarded(["/no/such/python"], stdout=None, stderr=None, grace_s=1.0)


def test_a_guardian_that_never_speaks_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = tmp_path / "python"
    mute.write_text("#!/bin/sh\nexec sleep 600\n")
    mute.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(mute))
    monkeypatch.setattr(guarded_module, "_GUARDIAN_STARTS_WITHIN_S", 0.2)
    monkeypatch.setattr(guarded_module, "_GUARDIAN_ENDS_WITHIN_S", 0.2)
    with pytest.raises(ServerFailed, match="true cannot be run"):
        Guarded(["true"], stdout=None, stderr=None, grace_s=0.1)
