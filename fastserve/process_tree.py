"""Owns ending everything that this process has started, orphans included. Knows nothing of what they do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_TERM_GRACE_S = 3.0
_KILL_GRACE_S = 5.0
_LOOK_AGAIN_S = 0.5


def adopt_orphans() -> None:
    """From now on a descendant whose parent dies becomes our child, so that `descendants` misses none. Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(child: int) -> None:
    """Takes the exit status of adopted children that have ended: each would stay as a zombie for as long as we live.

    child: one of our own, whose status is left to whoever started it.
    """
    if not sys.platform.startswith("linux"):
        return
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, ended)) is not None and found.si_pid != child:
            os.waitpid(found.si_pid, 0)


def descendants() -> list[psutil.Process]:
    """Every living process below this one."""
    return [process for process in psutil.Process().children(recursive=True) if _is_alive(process)]


def end_descendants() -> None:
    """SIGTERM, three seconds later SIGKILL, until none is left: those that die may leave new orphans behind.

    Raises:
        ProcessesRemain: some outlive SIGKILL.
    """
    _signal(mine := descendants(), signal.SIGTERM)
    psutil.wait_procs(mine, timeout=_TERM_GRACE_S)
    deadline = time.monotonic() + _KILL_GRACE_S
    while remaining := descendants():
        if time.monotonic() > deadline:
            raise ProcessesRemain(remaining)
        _signal(remaining, signal.SIGKILL)
        psutil.wait_procs(remaining, timeout=_LOOK_AGAIN_S)
    _reap()


class ProcessesRemain(Exception):
    """SIGKILL did not end them: they hang in the kernel. For the operator."""

    def __init__(self, processes: Iterable[psutil.Process]) -> None:
        super().__init__(f"still there after SIGKILL: {', '.join(str(process.pid) for process in processes)}")


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _reap() -> None:
    """Takes the exit status of adopted children, which otherwise stay as zombies for as long as we live."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue
