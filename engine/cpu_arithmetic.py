"""Owns in which type a model computes on CPU, where the processor has no arithmetic for the one that was asked for."""

from __future__ import annotations

import logging
import platform
from dataclasses import replace
from pathlib import Path

import torch

from engine.checkpoint import weight_bytes
from engine.config import EngineConfig
from engine.fused.compiled import cpu_flags
from engine.memory import host_free_bytes
from engine.process_group import World

_X86 = ("x86_64", "AMD64")
_ARITHMETIC = {"bfloat16": "avx512_bf16", "float16": "avx512_fp16"}
_log = logging.getLogger(__name__)


def as_computed(config: EngineConfig, folder: Path, world: World) -> EngineConfig:
    """The configuration with float32 where some rank's processor could multiply the configured type by emulation alone,
    which takes several times as long (docs/decisions/0017-float32-on-older-processors.md).

    All ranks must call it, and get the same. float32 takes twice the memory: where that is not free, nothing changes.
    """
    if world.device.type != "cpu":
        return config
    reason = lacking(config.dtype)
    if all(world.gathered(int(not reason))):
        return config
    needed, free = weight_bytes(folder, torch.float32) * world.size, host_free_bytes()
    if not all(world.gathered(int(needed <= free))):
        _log.warning("%s computes slowly: %s, and float32 would take %d bytes", config.dtype, reason, needed)
        return config
    if world.rank == 0:
        _log.warning("computing in float32 instead of %s: %s", config.dtype, reason or "another rank's is older")
    return replace(config, dtype="float32")


def lacking(dtype: str) -> str:
    """What this processor lacks for the type; empty where it lacks nothing, or nothing is known of it."""
    needed = _ARITHMETIC.get(dtype)
    if needed is None or platform.machine() not in _X86 or not cpu_flags() or needed in cpu_flags():
        return ""
    return f"this processor has no {needed}"
