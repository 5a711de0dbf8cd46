"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def python_block(mentioning: str) -> str:
    """The README's one Python block that mentions `mentioning`."""
    (block,) = [found for found in PYTHON_BLOCK.findall((ROOT / "README.md").read_text()) if mentioning in found]
    return str(block)


@pytest.mark.service
@pytest.mark.timeout(400)
def test_the_readmes_python_starts_a_service_gets_an_answer_and_stops_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", python_block("ModelServer")], capture_output=True, text=True, timeout=360, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
