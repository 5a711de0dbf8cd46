"""Compiles DeepSpeed's shared-memory all-reduce ahead of its first use. Knows nothing of who needs it.

`DS_ACCELERATOR=cpu python -m engine.shared_memory_build FILE` leaves the compiled library's path in FILE.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deepspeed.accelerator import get_accelerator


def build() -> Path:
    """The library, compiled where torch keeps its extensions unless it is there already. Takes about a minute.

    Raises:
        RuntimeError: the compiler failed, or the platform is not Linux.
    """
    operation = get_accelerator().create_op_builder("ShareMemCommBuilder").load(verbose=False)
    return Path(operation.__file__)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(str(build()))
