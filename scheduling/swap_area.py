"""Owns which slot of the swap area holds which block of a parked sequence. Knows nothing of tensors, keys or time.

A slot is as large as a block. The area lies in host memory, one part on each rank, and every rank copies what the plan
says: first all blocks that go out, then all that come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BlockCopies:
    """What a step copies before it computes, in this order. outward: (block, slot). inward: (slot, block)."""

    outward: list[tuple[int, int]] = field(default_factory=list)
    inward: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.outward) + len(self.inward)


class SwapArea:
    """`num_slots` slots. One that has been read is free again from the next `settle` on, so that no block goes out to
    it in the step in which its content is still to come in.

    Raises:
        ValueError: the number is negative.
    """

    def __init__(self, num_slots: int) -> None:
        if num_slots < 0:
            raise ValueError(f"num_slots: expected at least 0, got {num_slots}")
        self.num_slots = num_slots
        self._free = list(range(num_slots - 1, -1, -1))
        self._read: list[int] = []  # until the next `settle`
        self._slots: dict[str, list[int]] = {}

    @property
    def num_free(self) -> int:
        """Slots that can be taken now."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Slots that hold a parked sequence's blocks."""
        return self.num_slots - len(self._free) - len(self._read)

    def holds(self, owner: str) -> bool:
        return owner in self._slots

    def put(self, owner: str, block_ids: Sequence[int]) -> list[tuple[int, int]]:
        """Gives each block a slot; there must be enough. Returns (block, slot) in order of position."""
        assert owner not in self._slots, f"{owner} is swapped out already"
        assert len(block_ids) <= self.num_free, f"{owner}: {len(block_ids)} blocks, {self.num_free} free slots"
        slots = [self._free.pop() for _ in block_ids]
        self._slots[owner] = slots
        return list(zip(block_ids, slots, strict=True))

    def take(self, owner: str, block_ids: Sequence[int], first: int = 0) -> list[tuple[int, int]]:
        """Gives the owner's slots up; returns (slot, block) for its positions from `first` on, whose content is wanted
        in `block_ids`, a block for each position."""
        slots = self._slots.pop(owner)
        self._read += slots
        return list(zip(slots[first:], block_ids[first : len(slots)], strict=True))

    def drop(self, owner: str) -> None:
        """Gives the owner's slots up unread, if it has any."""
        self._free += self._slots.pop(owner, [])

    def settle(self) -> None:
        """What the last plan read has been copied: those slots are free."""
        if self._read:
            self._free += self._read
            self._read = []

    def faults(self) -> list[str]:
        """What is wrong with the books: every slot is in exactly one state. Empty where nothing is."""
        held = [slot for slots in self._slots.values() for slot in slots]
        if sorted([*self._free, *self._read, *held]) == list(range(self.num_slots)):
            return []
        return [f"swap slots: free {self._free}, read {self._read}, held {held}, expected {self.num_slots} in all"]
