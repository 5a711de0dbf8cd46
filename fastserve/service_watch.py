"""Owns the time between a service's start and its end: says when it is ready, notices when it fails. Ends nothing."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from fastserve.start_watch import Look, StartWatch

_POLL_S = 0.5


def watch(
    process: subprocess.Popen[bytes],
    look: Look,
    ready: str,
    stop: threading.Event,
    console: Console,
    meanwhile: Callable[[], None] = lambda: None,
) -> int:
    """The exit status: 0 after `stop`, which is heard within half a second, and 1 when the service failed.

    ready: what to say of a service that has become ready. meanwhile: is called every half second.
    """
    started_s = time.monotonic()
    is_told = False
    with StartWatch(look) as start:
        while not stop.wait(_POLL_S):
            meanwhile()
            if process.poll() is not None:
                _tell_end(process, console)
                return 1
            outcome = start.outcome
            if outcome is not None and outcome.failure is not None:
                _say(console, f"[red]the service cannot start:[/]\n{escape(outcome.failure)}")
                return 1
            if outcome is not None and not is_told:
                is_told = True
                _say(console, f"[green]ready[/] after {time.monotonic() - started_s:.0f} s: {ready}", soft_wrap=True)
    _say(console, "stopping ...")
    return 0


def _tell_end(process: subprocess.Popen[bytes], console: Console) -> None:
    _say(console, f"[red]the service ended by itself[/] (exit {process.returncode}); its messages are above")


def _say(console: Console, text: str, *, soft_wrap: bool | None = None) -> None:
    """What nobody can read any more, on a terminal that has been closed or in a pipe, is no reason to end a service."""
    with contextlib.suppress(OSError, SystemExit):  # which of them is rich's choice
        console.print(text, soft_wrap=soft_wrap)
