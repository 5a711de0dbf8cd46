"""Says, one line each, what this machine lacks and the command that mends it. Knows nothing of what gets installed.

Run by path, before anything is installed: standard library only, in a syntax that old Pythons can read, so that an old
Python can say that it is too old. A missing compiler is not looked for here: whatever is compiled says so itself
(`fastserve.shm_op`, `engine.fused.compiled`), and the service runs without it, slower.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

MIN_PYTHON = (3, 11)
MIN_DISK_GB = 6
MIN_MEMORY_GB = 4


class Lack:
    """One thing that is missing. An essential one ends the set-up; any other is a warning."""

    def __init__(self, text: str, mend: str, *, essential: bool) -> None:
        self.essential = essential
        self.line = f"{'missing' if essential else 'warning'}: {text}; mend it with: {mend}"


def python_lack(version: tuple[int, int]) -> Lack | None:
    if version >= MIN_PYTHON:
        return None
    found, needed = (".".join(map(str, pair)) for pair in (version, MIN_PYTHON))
    return Lack(f"Python {needed} or newer (this is {found})", f"make PYTHON=python{needed} install", essential=True)


def venv_lack() -> Lack | None:
    if all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        return None
    return Lack("Python's venv module", "sudo apt-get install python3-venv", essential=True)


def disk_lack(free_gb: float) -> Lack | None:
    if free_gb >= MIN_DISK_GB:
        return None
    text = f"{MIN_DISK_GB} GB of free disk for packages and the model ({free_gb:.1f} GB free)"
    return Lack(text, "make room, or clone onto a larger disk", essential=True)


def memory_lack(total_gb: float) -> Lack | None:
    if total_gb >= MIN_MEMORY_GB:
        return None
    text = f"{MIN_MEMORY_GB} GB of memory ({total_gb:.1f} GB found): Ray may end the service"
    return Lack(text, "a larger machine, or swap", essential=False)


def lacks(folder: str) -> list[Lack]:
    """All that this machine lacks to hold an installation in `folder`."""
    found = (
        python_lack(sys.version_info[:2]),
        venv_lack(),
        disk_lack(shutil.disk_usage(folder).free / 1e9),
        memory_lack(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
    )
    return [lack for lack in found if lack is not None]


def main() -> int:
    found = lacks(".")
    for lack in found:
        print(lack.line, file=sys.stderr)  # noqa: T201
    return 1 if any(lack.essential for lack in found) else 0


if __name__ == "__main__":
    sys.exit(main())
