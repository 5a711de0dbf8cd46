from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fastserve import prerequisites
from fastserve.prerequisites import MIN_DISK_GB, disk_lack, memory_lack, python_lack


def test_an_old_python_is_told_how_to_name_a_newer_one() -> None:
    lack = python_lack((3, 9))

    assert lack is not None
    assert lack.essential
    assert lack.line == "missing: Python 3.11 or newer (this is 3.9); mend it with: make PYTHON=python3.11 install"


def test_too_little_disk_ends_the_set_up_and_too_little_memory_only_warns() -> None:
    disk, memory = disk_lack(MIN_DISK_GB - 1.0), memory_lack(2.0)

    assert disk is not None
    assert disk.essential
    assert memory is not None
    assert not memory.essential


def test_a_machine_that_has_everything_lacks_nothing() -> None:
    assert python_lack((3, 11)) is None
    assert disk_lack(100.0) is None
    assert memory_lack(16.0) is None


def test_it_runs_by_path_without_any_installed_package(tmp_path: Path) -> None:
    script = Path(prerequisites.__file__)

    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 0, done.stderr
