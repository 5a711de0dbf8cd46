"""Owns steps that only decode: how many of the next are alike, and doing them at once. Knows no order and no clock.

Whoever plays an engine on virtual time need not plan each of them. What comes out is what `Batcher.plan` and
`Batcher.record` would have made of them one by one, but for which block has which number.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

from scheduling.batch_plan import BatchLimits
from scheduling.block_account import BlockAccount
from scheduling.churn_budget import ChurnBudget
from scheduling.sequence import Sequence


class SteadyDecodes:
    """Looks ahead over one batch while nobody joins, leaves or gives way."""

    def __init__(self, limits: BatchLimits, pool: BlockAccount, budget: ChurnBudget) -> None:
        self._limits = limits
        self._pool = pool
        self._budget = budget

    def num_steps(self, running: Many[Sequence], most: int) -> int:
        """How many steps, at most `most`, give each of `running` one token and find all the blocks that this takes."""
        if not running or len(running) > self._limits.max_num_batched_tokens:
            return 0
        lengths = []
        for sequence in running:
            length = len(sequence.token_ids)
            if length - sequence.num_computed != 1:
                return 0
            lengths.append(length)
        return self._num_within_blocks(lengths, [sequence.num_room for sequence in running], most)

    def run(self, running: Many[Sequence], num_steps: int, token_id: int) -> None:
        """Do so many steps, no more than `num_steps` has said; each of them chooses `token_id`."""
        pool, block_size = self._pool, self._pool.block_size
        pool.swap.settle()
        for sequence in running:
            num_held = len(sequence.token_ids) + num_steps - 1  # the last token has no place yet
            if num_held > sequence.num_room:
                extended = pool.extend(sequence.seq_id, num_held)
                assert extended, f"{sequence.seq_id}: no block for a step that was sure of it"
                sequence.num_room = pool.num_held(sequence.seq_id) * block_size
        self.record(running, num_steps, token_id)

    def record(self, running: Many[Sequence], num_steps: int, token_id: int) -> None:
        """Each of them has got so many tokens, for which there was room."""
        pool, block_size, is_full = self._pool, self._pool.block_size, self._budget.is_full
        tokens = [token_id] * num_steps
        for sequence in running:
            start = sequence.num_computed
            sequence.token_ids += tokens
            sequence.num_computed = num_computed = start + num_steps
            if num_computed // block_size > start // block_size:
                pool.record(sequence.seq_id, sequence.token_ids, num_computed)
            if not is_full:
                self._budget.earn_singly(min(num_steps, num_computed - sequence.num_reached))

    def _num_within_blocks(self, lengths: list[int], rooms: list[int], most: int) -> int:
        """The most steps for which there are blocks: bisection, as each step takes no fewer than the one before."""
        if self._num_blocks(lengths, rooms, most) <= self._pool.num_free:
            return most
        enough, too_many = 0, most
        while too_many - enough > 1:
            middle = (enough + too_many) // 2
            if self._num_blocks(lengths, rooms, middle) <= self._pool.num_free:
                enough = middle
            else:
                too_many = middle
        return enough

    def _num_blocks(self, lengths: list[int], rooms: list[int], num_steps: int) -> int:
        """Blocks that so many steps take."""
        block_size, count = self._pool.block_size, 0
        for length, room in zip(lengths, rooms, strict=True):
            if (lacking := length + num_steps - 1 - room) > 0:
                count -= -lacking // block_size
        return count
