"""Takes what the README shows out of it, to be run as it stands. Runs nothing."""

from __future__ import annotations

import re

from tests.service.running import ROOT

README_URL = "http://127.0.0.1:8000"  # what its blocks speak to


def python_block(mentioning: str) -> str:
    """The README's one Python block that mentions `mentioning`."""
    return _block("python", mentioning)


def shell_block(mentioning: str) -> str:
    """The README's one shell block that mentions `mentioning`."""
    return _block("sh", mentioning)


def _block(language: str, mentioning: str) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [found for found in blocks if mentioning in found]
    return block
