"""Owns the parent's end of a command that nothing outlives, whatever ends the parent. Knows nothing of what it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from fastserve.errors import ServerFailed

_GUARDIAN_STARTS_WITHIN_S = 60.0
_GUARDIAN_ENDS_WITHIN_S = 20.0


class Guarded:
    """A command below a guardian, which ends it with all that it started when this process ends or calls `end`.

    grace_s: from SIGTERM to SIGKILL. Both pipes carry text.

    Raises:
        ServerFailed: the command cannot be run; its log says why.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: int | IO[bytes] | None,
        stderr: int | IO[bytes] | None,
        grace_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._grace_s = grace_s
        self._lifeline, theirs = socket.socketpair()
        with theirs:
            guardian = [sys.executable, "-m", "benchmarks.guardian", str(theirs.fileno()), str(grace_s)]
            self.process = subprocess.Popen(
                [*guardian, *command],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                text=True,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        started = self._started()
        if not started:
            self.end()
            raise ServerFailed(f"{command[0]} cannot be run")
        self._group = int(started)

    def _started(self) -> str:
        """What the guardian says first; nothing where it ends before that, or does not come."""
        self._lifeline.settimeout(_GUARDIAN_STARTS_WITHIN_S)
        try:
            with self._lifeline.makefile() as told:
                return told.readline()
        except TimeoutError:
            return ""

    def send_signal(self, number: signal.Signals) -> None:
        """To every process of the command's group, as far as there is one."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._group, number)

    def end(self) -> None:
        """Returns when nothing of the command is left."""
        self._lifeline.close()
        try:
            self.process.wait(self._grace_s + _GUARDIAN_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        finally:
            assert self.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
