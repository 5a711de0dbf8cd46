"""Building the shared-memory operation, also after somebody was killed in the middle of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler"),
]

BUILD_WITHIN_S = 400


def build(record: Path) -> Path:
    """As the set-up and every rank do, in a process of its own; returns the library."""
    command = [sys.executable, "-m", "engine.shared_memory_build", str(record)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "PATH": path}
    subprocess.run(command, check=True, timeout=BUILD_WITHIN_S, env=environment)
    return Path(record.read_text())


def test_a_lock_that_a_killed_process_left_behind_holds_nobody_up(tmp_path: Path) -> None:
    library = build(tmp_path / "first")
    (library.parent / "lock").touch()

    assert build(tmp_path / "second") == library
