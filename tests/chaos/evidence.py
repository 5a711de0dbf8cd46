"""Owns what a run's logs say of the requests that it lost. Reads files; knows no service."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

MAX_LINES = 40
MAX_CHARACTERS = 600


def mentions(folder: Path, names: Collection[str]) -> list[str]:
    """The lines of all logs below `folder` that mention any of `names` as a whole word, each after its file's name."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        if names and path.suffix in {".log", ".err", ".out"} and path.is_file():
            with path.open(errors="replace") as lines:
                found += [f"{path.name}: {line.strip()[:MAX_CHARACTERS]}" for line in lines if _has(line, names)]
    return found[:MAX_LINES]


def _has(line: str, names: Collection[str]) -> bool:
    words = "".join(letter if letter.isalnum() or letter == "-" else " " for letter in line).split()
    return not set(names).isdisjoint(words)
