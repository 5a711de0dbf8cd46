"""Owns how many blocks each sequence holds and has left behind, where no two share any. Knows no tokens and no time.

It answers as `scheduling.kv_blocks.BlockPool` does for such sequences, without an entry for each block: what is
evicted, and when, depends on numbers alone then. Each owner's salt must be its own id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from scheduling.kv_blocks import PrefixMatch
from scheduling.swap_area import SwapArea

_NO_MATCH = PrefixMatch()


@dataclass(slots=True)
class _Holding:
    """num_recorded: leading blocks whose content has been computed; they stay cached when they are freed."""

    num_blocks: int
    num_recorded: int


class CountedBlocks:
    """Implements `scheduling.block_account.BlockAccount`.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, num_blocks: int, block_size: int, num_swap_slots: int = 0) -> None:
        for name, value in (("num_blocks", num_blocks), ("block_size", block_size)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.swap = SwapArea(num_swap_slots)
        self._num_blank = num_blocks
        self._num_cached = 0
        self._cached: OrderedDict[str, int] = OrderedDict()  # of each former owner, the first to be evicted first
        self._holdings: dict[str, _Holding] = {}

    @property
    def num_free(self) -> int:
        return self._num_blank + self._num_cached

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    @property
    def is_half_free(self) -> bool:
        return 2 * self.num_free >= self.num_blocks

    def num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def num_held(self, owner: str) -> int:
        return self._holdings[owner].num_blocks

    def num_shared(self, owner: str) -> int:
        return 0

    def block_table(self, owner: str) -> list[int]:
        """As many numbers as the owner has blocks; they say nothing else."""
        return list(range(self._holdings[owner].num_blocks))

    def match_prefix(self, token_ids: Sequence[int], salt: str = "") -> PrefixMatch:
        """What the owner of this salt has left in the cache."""
        if not (num_cached := self._cached.get(salt, 0)):
            return _NO_MATCH
        num_matched = min(num_cached, (len(token_ids) - 1) // self.block_size)
        return PrefixMatch(list(range(num_matched)))

    def num_lacking(
        self, num_tokens: int, match: PrefixMatch, headroom: int = 0, given_up: Collection[str] = ()
    ) -> int:
        """What is matched counts as free like the rest of the cache."""
        num_freed = sum(self._holdings[owner].num_blocks for owner in given_up)
        return max(0, self.num_blocks_for(num_tokens) + headroom - self.num_free - num_freed)

    def allocate(self, owner: str, num_tokens: int, match: PrefixMatch, salt: str = "") -> bool:
        assert owner not in self._holdings, f"{owner} already holds blocks"
        if self.num_lacking(num_tokens, match) > 0:
            return False
        num_matched = len(match.block_ids)
        if num_matched:
            self._num_cached -= num_matched
            self._leave(salt, self._cached[salt] - num_matched)
        num_blocks = self.num_blocks_for(num_tokens)
        self._take(num_blocks - num_matched)
        self._holdings[owner] = _Holding(num_blocks, num_matched)
        return True

    def extend(self, owner: str, num_tokens: int) -> bool:
        holding = self._holdings[owner]
        num_more = self.num_blocks_for(num_tokens) - holding.num_blocks
        if num_more > self.num_free:
            return False
        self._take(num_more)
        holding.num_blocks += num_more
        return True

    def record(self, owner: str, token_ids: Sequence[int], num_computed: int) -> None:
        self._holdings[owner].num_recorded = num_computed // self.block_size

    def free(self, owner: str, *, forget: bool = False) -> None:
        holding = self._holdings.pop(owner)
        num_kept = 0 if forget else holding.num_recorded
        self._num_blank += holding.num_blocks - num_kept
        self._num_cached += num_kept
        if num_kept:
            self._cached[owner] = num_kept

    def _take(self, num_blocks: int) -> None:
        """Those without content first, then the end of what was left behind longest ago."""
        num_blank = min(max(0, num_blocks), self._num_blank)
        self._num_blank -= num_blank
        num_evicted = num_blocks - num_blank
        while num_evicted > 0:
            oldest, num_left = next(iter(self._cached.items()))
            num_gone = min(num_left, num_evicted)
            self._num_cached -= num_gone
            num_evicted -= num_gone
            self._leave(oldest, num_left - num_gone)

    def _leave(self, owner: str, num_cached: int) -> None:
        if num_cached:
            self._cached[owner] = num_cached
        else:
            del self._cached[owner]
