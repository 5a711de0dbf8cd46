"""An actor that is stopped or hangs is ended with its dependents; one that is well is left alone. Real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.actor_watchdog import ActorWatchdog

ENDS_WITHIN_S = 20
BEAT_S = 0.2
ROOT = Path(__file__).parents[2]
#: Tells the process id of its watchdog at each beat, and of none that has ended; hangs when it is told to.
ACTOR = f"""
import asyncio, sys, threading, time
import psutil
from cluster.actor_watchdog import watched

def told():
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    print(*[child.pid for child in children], flush=True)
    return map(int, sys.argv[1:])

async def act():
    loop = asyncio.get_running_loop()
    order = lambda: sys.stdin.readline() and loop.call_soon_threadsafe(time.sleep, 1000)
    threading.Thread(target=order, daemon=True).start()
    await watched(told, {BEAT_S})

asyncio.run(act())
"""


class Actor:
    """A process with a watchdog, and one dependent."""

    def __init__(self) -> None:
        self.dependent = psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", ACTOR, str(self.dependent.pid)]
        self.process = psutil.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
        self.watchdog = psutil.Process(self.next_watchdog())
        self.next_watchdog()  # so that the beat before this one has told it of the dependent

    def next_watchdog(self) -> int:
        """The process id of the one that runs at the next beat. It may have ended since."""
        pids: list[str] = []
        while len(pids) != 1:
            pids = self.process.stdout.readline().split()
        return int(pids[0])

    def end(self) -> None:
        for process in (self.process, self.dependent):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            process.communicate()


def wait_for_end(watchdog: psutil.Process) -> None:
    """Also of one that has no parent any more that would be told."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not has_ended(watchdog):
        assert time.monotonic() < deadline, f"{watchdog} has not ended"
        with contextlib.suppress(psutil.TimeoutExpired):
            watchdog.wait(BEAT_S)


def has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def actor() -> Iterator[Actor]:
    actor = Actor()
    yield actor
    actor.end()


def test_an_actor_that_is_stopped_is_ended_with_its_dependents_though_they_are_stopped_too(actor: Actor) -> None:
    actor.dependent.send_signal(signal.SIGSTOP)
    actor.process.send_signal(signal.SIGSTOP)

    assert actor.process.wait(ENDS_WITHIN_S) == -signal.SIGKILL
    assert actor.dependent.wait(ENDS_WITHIN_S) == -signal.SIGKILL
    wait_for_end(actor.watchdog)


def test_an_actor_whose_event_loop_stands_still_is_ended(actor: Actor) -> None:
    actor.process.stdin.write("hang\n")
    actor.process.stdin.flush()

    assert actor.process.wait(ENDS_WITHIN_S) == -signal.SIGKILL


def test_dependents_do_not_outlive_an_actor_that_is_killed(actor: Actor) -> None:
    actor.dependent.send_signal(signal.SIGSTOP)
    actor.process.kill()

    assert actor.dependent.wait(ENDS_WITHIN_S) == -signal.SIGKILL
    wait_for_end(actor.watchdog)


def test_an_actor_that_is_well_is_left_alone(actor: Actor) -> None:
    for _ in range(15):  # beats: more than may be missed
        assert actor.next_watchdog() == actor.watchdog.pid
    assert actor.dependent.is_running()


def test_a_watchdog_that_dies_gets_a_successor(actor: Actor) -> None:
    actor.watchdog.kill()
    while (pid := actor.next_watchdog()) == actor.watchdog.pid:
        continue
    successor = psutil.Process(pid)

    actor.process.send_signal(signal.SIGSTOP)
    assert actor.process.wait(ENDS_WITHIN_S) == -signal.SIGKILL
    wait_for_end(successor)


def test_beats_to_a_watchdog_that_is_stopped_block_nobody() -> None:
    watchdog = ActorWatchdog()
    watchdog.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(10_000):
            assert watchdog.beat(range(100, 120))
    finally:
        watchdog.process.kill()
        watchdog.close()
        watchdog.process.wait(ENDS_WITHIN_S)
