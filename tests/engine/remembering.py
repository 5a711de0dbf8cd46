"""A fake engine that remembers what lies in each KV block, and fails where a step would attend to anything else."""

from __future__ import annotations

from typing import Any

from engine.backends.fake import FakeEngine
from engine.protocol import Chunk, Sampled
from scheduling.swap_area import BlockCopies
from tests.engine.factories import make_config


class RememberingEngine(FakeEngine):
    """Blocks and swap slots hold the tokens whose KV a real engine would have there."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(make_config(**settings), sleep=lambda seconds: None)
        self._block_size = self.capacity().block_size
        self._blocks: dict[int, list[int | None]] = {}
        self._slots: dict[int, list[int | None]] = {}
        self.num_copied = 0

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        for chunk in chunks:
            for position, token_id in enumerate(chunk.token_ids, chunk.start):
                self._block(chunk, position)[position % self._block_size] = token_id
        for chunk in chunks:
            seen = [self._block(chunk, p)[p % self._block_size] for p in range(chunk.start + len(chunk.token_ids))]
            assert seen == chunk.history[: len(seen)], f"{chunk.seq_id} attends to what is not its own"
        return super().execute(chunks)

    def copy_blocks(self, copies: BlockCopies) -> None:
        self.num_copied += len(copies)
        for block, slot in copies.outward:
            self._slots[slot] = list(self._blocks[block])
        for slot, block in copies.inward:
            self._blocks[block] = list(self._slots[slot])

    def _block(self, chunk: Chunk, position: int) -> list[int | None]:
        block = chunk.block_table[position // self._block_size]
        return self._blocks.setdefault(block, [None] * self._block_size)
