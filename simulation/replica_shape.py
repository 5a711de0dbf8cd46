"""Owns what one replica's engine holds, and how its steps are played. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.batch_plan import BatchLimits


@dataclass(frozen=True, slots=True)
class ReplicaShape:
    """What one replica's engine holds. max_skip: the most steps that are done at a time; 1 plans every one."""

    limits: BatchLimits
    num_blocks: int
    block_size: int = 16
    num_swap_slots: int = 0
    max_model_len: int = 8192
    reuse_prefix: bool = True
    max_skip: int = 1 << 20

    @property
    def kv_tokens(self) -> int:
        return self.num_blocks * self.block_size

    @property
    def holds_displaced(self) -> bool:
        """Whether the queue decides what becomes of those who give way to newcomers."""
        return self.limits.preemption != "off" and self.limits.parked_limit > 0
