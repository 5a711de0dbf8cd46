"""Owns running this interpreter on a module to its end, quietly. Knows nothing of what the module does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

_POLL_S = 0.2


class PythonProcessError(Exception):
    """A child interpreter failed. Holds what it was asked and the last line that it wrote."""

    def __init__(self, arguments: Sequence[str], returncode: int, last_line: str) -> None:
        super().__init__(f"python {' '.join(arguments)}: exit {returncode}: {last_line}")
        self.returncode = returncode
        self.last_line = last_line


def run_python(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> None:
    """Waits for `python ARGUMENTS` with `env` added to ours, calling `on_tick` every 0.2 s. It ends with this call.

    Raises:
        PythonProcessError: it ended with another status than 0.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | dict(env or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = _wait(process, on_tick)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode != 0:
        raise PythonProcessError(arguments, process.returncode, _last_line(said))


def _wait(process: subprocess.Popen[str], on_tick: Callable[[], None] | None) -> str:
    """What the process wrote to standard error."""
    while True:
        try:
            return process.communicate(timeout=_POLL_S)[1]
        except subprocess.TimeoutExpired:
            if on_tick:
                on_tick()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
