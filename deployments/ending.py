"""Owns how a launcher tells the ingresses on its host that the service ends, and hears that they are done.

Files in a folder of theirs alone: no part of the service that may be ailing stands between. Knows no requests.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from deployments.api.gate import Gate

FOLDER_VARIABLE = "FASTSERVE_ENDING_FOLDER"
ANSWERS_WITHIN_S = 12.0  # of the 30 s that the end of the service may take
LOOK_EVERY_S = 0.2
_NOTICE = "ending"


@dataclass(frozen=True, slots=True)
class EndingFolder:
    """Each ingress at work has a file there with its process id as its name."""

    path: Path

    def announce(self) -> None:
        """The service ends."""
        (self.path / _NOTICE).touch()

    @property
    def is_announced(self) -> bool:
        return (self.path / _NOTICE).exists()

    def enter(self) -> None:
        """This process is at work."""
        (self.path / str(os.getpid())).touch()

    def leave(self) -> None:
        """This process has answered all that it was asked."""
        (self.path / str(os.getpid())).unlink(missing_ok=True)

    def at_work(self) -> list[int]:
        """The processes that have answers to give. One that has died gives none."""
        return [int(file.name) for file in self.path.iterdir() if file.name.isdecimal() and _lives(int(file.name))]


async def follow(folder: EndingFolder, gate: Gate) -> None:
    """Closes the gate when the end is announced, and says when all inside have their answers."""
    folder.enter()
    try:
        while not folder.is_announced:  # noqa: ASYNC110 - another process says it, by a file
            await asyncio.sleep(LOOK_EVERY_S)
        gate.close()
        await gate.empty(ANSWERS_WITHIN_S)
    finally:
        folder.leave()


def folder_of_launcher() -> EndingFolder | None:
    """None where the service was not started by a launcher of ours."""
    path = os.environ.get(FOLDER_VARIABLE)
    return None if path is None or not Path(path).is_dir() else EndingFolder(Path(path))


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid)
