"""Owns a small process beside an actor: it ends the actor where that is stopped or hangs, and its dependents.

A process that is stopped closes no connection and says nothing, so that for all others it is merely slow; and Ray
leaves it where it is, with all that it holds. Knows no Ray. The process runs this file, which therefore imports
nothing of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterable

import psutil

BEAT_S = 1.0
MAX_SILENT_BEATS = 5  # of the watchdog's own clock: while it is stopped itself, none is counted
GRACE_S = 2.0  # in which the dependents of an actor that has ended may end by themselves
_LONGEST_READ = 65_536


async def watched(dependents: Callable[[], Iterable[int]] = tuple, beat_s: float = BEAT_S) -> None:
    """Has this process ended when its event loop stands still for `MAX_SILENT_BEATS`, until this is cancelled.

    dependents: the ids of processes of this host that shall not outlive this one, however it ends.
    """
    watchdog = ActorWatchdog(beat_s)
    try:
        while True:
            if not watchdog.beat(dependents()):
                watchdog.close()
                watchdog = ActorWatchdog(beat_s)
            await asyncio.sleep(beat_s)
    finally:
        watchdog.close()


class ActorWatchdog:
    """The watchdog of the process that makes it. It ends when that process does."""

    def __init__(self, beat_s: float = BEAT_S, max_silent_beats: int = MAX_SILENT_BEATS) -> None:
        command = [sys.executable, "-I", __file__, str(os.getpid()), str(beat_s), str(max_silent_beats)]
        # A group of its own: a signal to that of the actor reaches it not.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0)
        assert self.process.stdin is not None
        self._pipe = self.process.stdin
        os.set_blocking(self._pipe.fileno(), False)

    def beat(self, dependents: Iterable[int]) -> bool:
        """This process is well, and these depend on it. False if the watchdog itself has ended."""
        line = " ".join(map(str, dependents)) + "\n"
        try:
            os.write(self._pipe.fileno(), line.encode())
        except BlockingIOError:
            return True  # it is stopped, and has beats enough to read when it goes on
        except BrokenPipeError:
            return False
        return True

    def close(self) -> None:
        """Let it go; it sees to the end of the dependents."""
        self._pipe.close()


class _Actor:
    """What the watchdog watches."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)  # it and no other that may have its number later
        self._dependents: dict[int, psutil.Process] = {}

    def has(self, pids: set[int]) -> None:
        """These are its dependents now."""
        known, self._dependents = self._dependents, {}
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._dependents[pid] = known.get(pid) or psutil.Process(pid)

    def end(self) -> None:
        _kill([self._process, *self._dependents.values()])

    def outlived(self) -> None:
        """It has ended by itself."""
        _, alive = psutil.wait_procs(self._dependents.values(), timeout=GRACE_S)
        _kill(alive)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def watch(beats: int, pid: int, beat_s: float, max_silent_beats: int) -> None:
    """Read the beats of process `pid` from a file descriptor until it closes, or none has come for too long."""
    actor, num_silent, unread = _Actor(pid), 0, b""
    with selectors.DefaultSelector() as selector:
        selector.register(beats, selectors.EVENT_READ)
        while num_silent <= max_silent_beats:
            if not selector.select(beat_s):
                num_silent += 1
                continue
            num_silent = 0
            read = os.read(beats, _LONGEST_READ)
            if not read:
                actor.outlived()
                return
            *lines, unread = (unread + read).split(b"\n")
            if lines:
                actor.has(set(map(int, lines[-1].split())))
    sys.stderr.write(f"process {pid} has given no sign of life for {num_silent * beat_s:g} s; ending it\n")
    actor.end()


if __name__ == "__main__":
    watch(sys.stdin.fileno(), int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
