"""Compiles DeepSpeed's shared-memory all-reduce ahead of its first use. Knows nothing of who needs it.

`DS_ACCELERATOR=cpu python -m engine.shared_memory_build FILE` leaves the compiled library's path in FILE.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deepspeed.accelerator import get_accelerator
from filelock import FileLock
from torch.utils import cpp_extension

BUILD_TIMEOUT_S = 600.0
OPERATION = "deepspeed_shm_comm"


def build() -> Path:
    """The library, compiled unless it is there already. Takes about a minute.

    Raises:
        RuntimeError: the compiler failed, or the platform is not Linux.
        OSError: somebody else has been compiling for longer than `BUILD_TIMEOUT_S`.
    """
    keep_in_this_environment()
    use_own_ninja()
    folder = build_folder()
    with FileLock(folder / "fastserve.lock", timeout=BUILD_TIMEOUT_S):
        forget_the_dead(folder)
        operation = get_accelerator().create_op_builder("ShareMemCommBuilder").load(verbose=False)
    return Path(operation.__file__)


def keep_in_this_environment() -> None:
    """Has torch build inside this Python environment, unless the operator has named a place.

    Torch's own place is shared by all environments of a user, and each compiles anew what another has compiled.
    """
    if os.access(sys.prefix, os.W_OK):
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))


def use_own_ninja() -> None:
    """Puts this environment's ninja first: two versions do not read each other's log, and each compiles all anew."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def build_folder() -> Path:
    """Where torch builds and keeps the library."""
    return Path(cpp_extension._get_build_directory(OPERATION, verbose=False))  # noqa: SLF001 - torch has no other way


def forget_the_dead(folder: Path) -> None:
    """Removes torch's own lock, for whoever holds ours.

    Torch's lock is a plain file: a process that is killed while it loads the library leaves it behind, and everybody
    after it waits for ever. Ours is the kernel's and ends with its process, so while we hold it nobody holds torch's.
    """
    (folder / "lock").unlink(missing_ok=True)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(str(build()))
