"""Owns having DeepSpeed's shared-memory all-reduce compiled before anybody waits for it. Without it gloo does the work.

Knows nothing of ranks. Safe when several processes ask at once: one compiles, the others wait and find it done.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from fastserve.one_at_a_time import StillBusy, one_at_a_time
from fastserve.python_process import PythonProcessError, run_python

Build = Callable[[Path], None]
COMPILE_WITHIN_S = 600.0
WITHOUT_IT = "tensor_parallel_size above 1 will use gloo, which is slower"


@dataclass(frozen=True, slots=True)
class OpRecord:
    """What was compiled, for which versions, and where: a note in the environment, so that looking costs no torch."""

    file: Path

    @classmethod
    def of_this_environment(cls) -> OpRecord:
        versions = "-".join(f"{name}{version(name)}" for name in ("deepspeed", "torch"))
        return cls(Path(sys.prefix) / f".shared-memory-op-{versions}")

    def is_built(self) -> bool:
        return self.file.is_file() and Path(self.file.read_text()).is_file()


def missing_tool() -> str | None:
    """What the compilation lacks and the command that mends it, in one line; None when it can be tried."""
    compiler = os.environ.get("CXX", "c++")
    if not sys.platform.startswith("linux"):
        return f"shared memory between ranks is for Linux only: {WITHOUT_IT}"
    if shutil.which(compiler) is None:
        return f"no C++ compiler ({compiler}): {WITHOUT_IT}; mend it with: sudo apt-get install g++ && make install"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return f"no Python.h: {WITHOUT_IT}; mend it with: sudo apt-get install python3-dev && make install"
    return None


def compile_op(record_file: Path) -> None:
    """In a process of its own. ninja stands beside this interpreter, so that folder goes onto the PATH."""
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with Console(stderr=True).status("compiling DeepSpeed's shared-memory all-reduce (about a minute)"):
        run_python(
            ["-m", "engine.shared_memory_build", str(record_file)], env={"DS_ACCELERATOR": "cpu", "PATH": search}
        )


def prebuild(record: OpRecord, *, build: Build = compile_op) -> str | None:
    """Compiles once. Returns None when the operation is there, or one line that says why it is not; never raises."""
    if record.is_built():
        return None
    if (missing := missing_tool()) is not None:
        return missing
    lock = record.file.with_name(f"{record.file.name}.lock")
    try:
        with one_at_a_time(lock, "compile DeepSpeed's shared-memory all-reduce", COMPILE_WITHIN_S):
            if not record.is_built():
                build(record.file)
    except StillBusy as error:
        return f"{error}: {WITHOUT_IT}"
    except PythonProcessError as error:
        return f"DeepSpeed's shared-memory all-reduce did not compile ({error.last_line}): {WITHOUT_IT}"
    return None


if __name__ == "__main__":
    problem = prebuild(OpRecord.of_this_environment())
    print(f"warning: {problem}" if problem else "shared-memory all-reduce ready", file=sys.stderr)  # noqa: T201
