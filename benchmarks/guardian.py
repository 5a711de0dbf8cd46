"""Runs one command and ends all that it started, at its end or at the end of the process that asked for it.

`python -m benchmarks.guardian LIFELINE GRACE_S COMMAND...`: LIFELINE is a connected socket. It is told the command's
process id, which is also that of its process group; when its other end is closed, by whatever, the command is asked to
end. The exit status is the command's. Knows nothing of what it runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from fastserve.process_tree import adopt_orphans, end_descendants

CANNOT_RUN = 127  # as shells say it


def main(lifeline: socket.socket, grace_s: float, command: Sequence[str]) -> int:
    adopt_orphans()
    try:
        process = subprocess.Popen(command, process_group=0)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - into the command's own log
        return CANNOT_RUN
    lifeline.sendall(f"{process.pid}\n".encode())
    threading.Thread(target=_end_with, args=(lifeline, process, grace_s), daemon=True).start()
    try:
        return _shown(process.wait())
    finally:
        end_descendants()


def _end_with(lifeline: socket.socket, process: subprocess.Popen[bytes], grace_s: float) -> None:
    """A process that is stopped hears no SIGTERM."""
    lifeline.recv(1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()


def _shown(status: int) -> int:
    """What a shell shows of a process that a signal ended."""
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]), sys.argv[3:]))
