"""Owns DeepSpeed's shared-memory all-reduce on CPU: whether it can be used, and that it leaves nothing in /dev/shm.

Knows nothing of models. The operation maps one segment a rank, named after MASTER_ADDR and MASTER_PORT, and never
unlinks it; here each rank unlinks its own as soon as all have mapped it, so that even kill -9 leaks none.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SEGMENT_FOLDER = Path("/dev/shm")
SEGMENT_BYTES = (2 * (1 << 20) + 2 * (32 << 20)) + 4096
_OPERATION = "deepspeed_shm_comm"
_FLOAT32_LEVEL = 1  # of the vector instructions that the operation needs, as DeepSpeed counts them
_log = logging.getLogger(__name__)


def segment(master_addr: str, master_port: int, rank: int) -> Path:
    """Where DeepSpeed's operation keeps the buffer of one rank."""
    return SEGMENT_FOLDER / f"deepspeed_allreduce_buffer_{os.getuid()}_{master_addr}_{master_port}_{rank}"


def unlink_segment(master_addr: str, master_port: int, rank: int) -> None:
    """Takes the name away; whoever has mapped the segment keeps it."""
    segment(master_addr, master_port, rank).unlink(missing_ok=True)


def can_use_shared_memory(world_size: int) -> bool:
    """Whether this rank could: /dev/shm has room for all ranks' segments, and the operation loads."""
    free = shutil.disk_usage(SEGMENT_FOLDER).free if SEGMENT_FOLDER.is_dir() else 0
    needed = world_size * SEGMENT_BYTES
    if free < needed:
        _log.warning(
            "all-reduce over gloo: %s has %s bytes free, %s needed", SEGMENT_FOLDER, f"{free:,}", f"{needed:,}"
        )
        return False
    try:
        load_operation()
    except (RuntimeError, OSError, ImportError, AttributeError, subprocess.SubprocessError) as error:
        _log.warning("all-reduce over gloo: DeepSpeed's shared-memory operation cannot be built: %s", error)
        return False
    return True


def load_operation() -> None:
    """Loads the operation, which is compiled at its first use on a machine (about a minute, with g++ and ninja)."""
    from engine.shared_memory_build import build

    with contextlib.redirect_stdout(io.StringIO()):
        build()


def allow_operation(allowed: bool) -> None:
    """Tells DeepSpeed, before it starts its communication, whether it may use the operation.

    This is the only one that it looks up. Asked for its own list it would try the compiler on all of them first.
    """
    import deepspeed

    vars(deepspeed.ops)["__compatible_ops__"] = {_OPERATION: allowed}


def all_reduce() -> Callable[[torch.Tensor], object]:
    """DeepSpeed's sum of float32 over all ranks, in place, once its communication has started: the operation itself
    where the ranks share memory, since the way to it through Python costs as much as a small sum."""
    import deepspeed
    import torch

    shares_memory = getattr(deepspeed.comm.comm.cdb, "shm_vector_kernel_level", 0) >= _FLOAT32_LEVEL
    operation: Callable[[torch.Tensor], object] = (
        torch.ops.deepspeed.inference_all_reduce_.default if shares_memory else deepspeed.comm.inference_all_reduce
    )
    return operation


def memory_identity() -> int:
    """Equal on two ranks exactly when they see the same /dev/shm: the machine's boot and the mounted device."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text() if boot.is_file() else os.uname().nodename
    device = SEGMENT_FOLDER.stat().st_dev if SEGMENT_FOLDER.is_dir() else 0
    return zlib.crc32(f"{boot_id}{device}".encode())
