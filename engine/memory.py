"""Says what fits: weights while they load, and blocks of KV cache. Knows nothing of tensors or layers.

Imports torch only to ask a GPU: a backend without a model counts its blocks here too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config import EngineConfig

if TYPE_CHECKING:
    import torch

CPU_SHARE_OF_FREE = 0.25  # all replicas of a machine share its memory with everything else on it
CUDA_SHARE_OF_FREE = 0.9
#: On CPU a rank's cache grows to this by default, or to one sequence's if that is more; `kv_cache_tokens` overrides.
DEFAULT_CPU_CACHE_BYTES = 2 << 30
#: A rank's swap area grows to this by default, and to this share of what the machine has free for all ranks together.
DEFAULT_SWAP_BYTES = {"cpu": 512 << 20, "cuda": 4 << 30}
SWAP_SHARE_OF_FREE = 0.125
_NO_LIMIT = 1 << 62


class InsufficientMemory(Exception):
    """Weights or KV cache do not fit; the message holds the arithmetic. For the operator, at start-up."""


def check_weights(num_weight_bytes: int, num_ranks: int, num_free_bytes: int, *, mapped: bool) -> None:
    """Refuses a load that the system would end by killing a process half way.

    mapped: the checkpoint is stored as it is served. Then every rank reads the same pages of the file and keeps a part;
    else every rank makes a whole copy first.

    Raises:
        InsufficientMemory: the ranks of this machine need more than is free.
    """
    num_copies = 1 if mapped else num_ranks
    needed = num_weight_bytes * num_copies
    if needed > num_free_bytes:
        why = "the ranks' parts of it" if mapped else "each rank converts all before it keeps its part"
        raise InsufficientMemory(
            f"weights: {num_weight_bytes:,} bytes x {num_copies} ({why}) = {needed:,} bytes of memory needed, "
            f"{num_free_bytes:,} free"
        )


def available_blocks(
    config: EngineConfig, block_bytes: int, device: torch.device, promised_bytes: int = 0, reserved_bytes: int = 0
) -> int:
    """Blocks that the cache of this rank may take of what is free now.

    promised_bytes: of what is free, those that each rank of the machine will still take for its weights and, on CPU,
    its swap area.
    reserved_bytes: those that this rank will still take of its GPU for recorded decodes.
    """
    free = max(0, free_bytes(device) - promised_bytes * config.tensor_parallel_size - reserved_bytes)
    if device.type == "cuda":
        return int(free * CUDA_SHARE_OF_FREE) // block_bytes
    share = 1.0 if config.kv_cache_tokens else CPU_SHARE_OF_FREE
    return int(free * share) // config.tensor_parallel_size // block_bytes


def wanted_blocks(config: EngineConfig, max_model_len: int) -> int:
    """`kv_cache_tokens` in whole blocks, or enough for every sequence that the engine can hold at its longest."""
    if config.kv_cache_tokens:
        return _blocks(config.kv_cache_tokens, config.block_size)
    return (config.max_num_seqs + config.parked_limit) * _blocks(max_model_len, config.block_size)


def longest_sequence(config: EngineConfig, max_model_len: int, num_blocks: int) -> int:
    """Tokens of prompt and answer that the engine offers: no more than its whole cache holds."""
    return min(max_model_len, num_blocks * config.block_size)


def num_blocks(config: EngineConfig, max_model_len: int, block_bytes: int, available: int) -> int:
    """The blocks of every rank's cache: `wanted_blocks`, as far as that is available.

    available: of the rank that has the least.

    Raises:
        InsufficientMemory: not all of `kv_cache_tokens`, or not even one longest sequence, is available.
    """
    one_sequence = _blocks(max_model_len, config.block_size)
    wanted = wanted_blocks(config, max_model_len)
    needed = wanted if config.kv_cache_tokens else one_sequence
    if available < needed:
        raise InsufficientMemory(
            f"KV cache: {needed} blocks x {block_bytes:,} bytes = {needed * block_bytes:,} bytes a rank needed for "
            f"{needed * config.block_size} tokens, {available * block_bytes:,} bytes available: "
            f"lower {'kv_cache_tokens' if config.kv_cache_tokens else 'max_model_len'}"
        )
    if config.kv_cache_tokens:
        return needed
    cap = wanted if config.device == "cuda" else max(one_sequence, DEFAULT_CPU_CACHE_BYTES // block_bytes)
    return min(wanted, cap, available)


def num_swap_slots(config: EngineConfig, max_model_len: int, block_bytes: int, host_free_bytes: int) -> int:
    """The blocks of every rank's swap area: `swap_space_tokens`, or the longest sequences that newcomers may park, as
    far as the defaults allow.

    Raises:
        InsufficientMemory: not all of `swap_space_tokens` is free.
    """
    if config.preemption in ("off", "recompute"):
        return 0
    if config.swap_space_tokens is None:
        shared = int(host_free_bytes * SWAP_SHARE_OF_FREE) // config.tensor_parallel_size
        room = min(DEFAULT_SWAP_BYTES[config.device], shared) // block_bytes
        return min(max(1, config.parked_limit) * _blocks(max_model_len, config.block_size), room)
    slots = _blocks(config.swap_space_tokens, config.block_size)
    needed = slots * block_bytes * config.tensor_parallel_size
    if needed > host_free_bytes:
        raise InsufficientMemory(
            f"swap area: {slots} blocks x {block_bytes:,} bytes x {config.tensor_parallel_size} ranks = "
            f"{needed:,} bytes of memory needed, {host_free_bytes:,} free: lower swap_space_tokens"
        )
    return slots


def free_bytes(device: torch.device) -> int:
    """Free memory of the device; on CPU what the machine and its container leave."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return host_free_bytes()


def host_free_bytes() -> int:
    """Free memory of the machine, as far as its container leaves it."""
    return min(_machine_bytes(), container_bytes())


def container_bytes(root: Path = Path("/sys/fs/cgroup")) -> int:
    """What the cgroup (version 2) still allows; a very large number where there is no limit."""
    try:
        limit, used = (root / "memory.max").read_text().strip(), (root / "memory.current").read_text()
    except OSError:
        return _NO_LIMIT
    return _NO_LIMIT if limit == "max" else max(0, int(limit) - int(used))


def _machine_bytes() -> int:
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.is_file() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _blocks(num_tokens: int, block_size: int) -> int:
    return -(-num_tokens // block_size)
