"""Owns the environments that other people's tests run in: made once, beside ours, of what the files here pin."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".venv-conformance"
INSTALL_WITHIN_S = 1800


class Environment(StrEnum):
    """Two, since some packages ask for an `openai` client that others have left behind."""

    CURRENT = "current"
    OPENAI2 = "openai2"

    @property
    def requirements(self) -> Path:
        return HERE / ("requirements.txt" if self is Environment.CURRENT else f"requirements-{self}.txt")

    @property
    def commands(self) -> Path:
        return FOLDER / self / "bin"

    @property
    def python(self) -> Path:
        return self.commands / "python"

    def pins(self) -> dict[str, str]:
        """The version of each package that its file names."""
        lines = [line.partition("#")[0].strip() for line in self.requirements.read_text().splitlines()]
        requirements = [Requirement(line) for line in lines if line]
        return {one.name: next(iter(one.specifier)).version for one in requirements}

    def install(self) -> None:
        """Makes it, where it is not there whole or the pins have changed.

        Raises:
            subprocess.CalledProcessError: a package cannot be installed.
        """
        wanted, complete = self.requirements.read_text(), FOLDER / self / ".complete"
        if complete.is_file() and complete.read_text() == wanted:
            return
        run(sys.executable, "-m", "venv", "--clear", str(FOLDER / self))
        run(str(self.python), "-m", "pip", "install", "--quiet", "--requirement", str(self.requirements))
        complete.write_text(wanted)


def run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=INSTALL_WITHIN_S)
