"""Owns what a run's logs say of the requests that it lost, and keeps them. Reads files; knows no service."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

LOGS = frozenset({".log", ".err", ".out"})
MAX_LINES = 40
MAX_CHARACTERS = 600


def mentions(folder: Path, names: Collection[str]) -> list[str]:
    """The lines of all logs below `folder` that mention any of `names` as a whole word, each after its file's name."""
    found: list[str] = []
    for path in _logs(folder) if names else ():
        with path.open(errors="replace") as lines:
            found += [f"{path.name}: {line.strip()[:MAX_CHARACTERS]}" for line in lines if _has(line, names)]
    return found[:MAX_LINES]


def keep(folder: Path, target: Path) -> int:
    """Copies all logs below `folder` to the same places below `target`; how many there were."""
    logs = _logs(folder)
    for path in logs:
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return len(logs)


def _logs(folder: Path) -> list[Path]:
    """Each once: Ray links to the folder of its present session beside it."""
    found = (path for path in folder.rglob("*") if path.suffix in LOGS and path.is_file() and not path.is_symlink())
    return sorted(found)


def _has(line: str, names: Collection[str]) -> bool:
    words = "".join(letter if letter.isalnum() or letter == "-" else " " for letter in line).split()
    return not set(names).isdisjoint(words)
