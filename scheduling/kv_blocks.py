"""Owns who holds which KV cache block, and which blocks can be reused. Knows nothing of tensors, sequences or time.

A block is free, cached (nobody holds it, its content can still be matched) or held by one or more tables. Content is
identified by a chain of hashes: of the salt, of all tokens before the block, and of the block's own tokens.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from scheduling.swap_area import SwapArea

BlockHash = bytes


class BlockPoolCorrupt(RuntimeError):
    """The pool's books do not balance. Nobody should catch it: whoever holds the pool must stop."""


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The longest cached run of whole blocks that a prompt begins with."""

    block_ids: list[int] = field(default_factory=list)
    hashes: list[BlockHash] = field(default_factory=list)


@dataclass(slots=True)
class _Table:
    """The blocks of one owner. `hashes` covers the leading blocks whose content has been computed."""

    salt: str
    block_ids: list[int] = field(default_factory=list)
    hashes: list[BlockHash] = field(default_factory=list)


def hash_block(parent: BlockHash, token_ids: Sequence[int]) -> BlockHash:
    """The identity of a block's content: its tokens after all the tokens before them."""
    return blake2b(parent + array("q", token_ids).tobytes(), digest_size=16).digest()


def hash_salt(salt: str) -> BlockHash:
    """The parent of a first block; prompts with different salts never share blocks."""
    return blake2b(salt.encode(), digest_size=16).digest()


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens, shared by reference count. `swap` has the slots for what is parked.

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
        self._free: list[int] = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._num_holders: dict[int, int] = {}
        self._hash_of: dict[int, BlockHash] = {}
        self._block_of: dict[BlockHash, int] = {}
        self._tables: dict[str, _Table] = {}

    @property
    def num_free(self) -> int:
        """Blocks that can be taken now, cached ones included."""
        return len(self._free) + len(self._cached)

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    @property
    def is_half_free(self) -> bool:
        """Whether what is freed now is likely to stay cached for a while."""
        return 2 * self.num_free >= self.num_blocks

    def num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def block_table(self, owner: str) -> list[int]:
        """The owner's blocks in order of position; a copy."""
        return list(self._tables[owner].block_ids)

    def num_held(self, owner: str) -> int:
        """Blocks in the owner's table, those included that others hold too."""
        return len(self._tables[owner].block_ids)

    def num_shared(self, owner: str) -> int:
        """How many of the owner's leading blocks others hold too."""
        count = 0
        for block_id in self._tables[owner].block_ids:
            if self._num_holders[block_id] == 1:
                break
            count += 1
        return count

    def match_prefix(self, token_ids: Sequence[int], salt: str = "") -> PrefixMatch:
        """What is cached of these tokens. Never all of them: the last token must be computed to choose the next."""
        match = PrefixMatch()
        parent = hash_salt(salt)
        for start in range(0, len(token_ids) - self.block_size, self.block_size):
            parent = hash_block(parent, token_ids[start : start + self.block_size])
            block_id = self._block_of.get(parent)
            if block_id is None:
                break
            match.block_ids.append(block_id)
            match.hashes.append(parent)
        return match

    def num_lacking(
        self, num_tokens: int, match: PrefixMatch, headroom: int = 0, given_up: Collection[str] = ()
    ) -> int:
        """How many blocks too few are free to hold `num_tokens` that begin with `match`, and to leave `headroom`.

        given_up: owners whose blocks count as free.
        """
        freed = self._freed_by(given_up)
        num_reused = sum(block_id not in self._cached and block_id not in freed for block_id in match.block_ids)
        num_taken = self.num_blocks_for(num_tokens) - num_reused
        return max(0, num_taken + headroom - self.num_free - len(freed))

    def allocate(self, owner: str, num_tokens: int, match: PrefixMatch, salt: str = "") -> bool:
        """Give a new owner blocks for `num_tokens`, the matched first. False, and nothing done, if too few are free."""
        assert owner not in self._tables, f"{owner} already holds blocks"
        if self.num_lacking(num_tokens, match) > 0:
            return False
        for block_id in match.block_ids:
            self._hold(block_id)
        table = _Table(salt, list(match.block_ids), list(match.hashes))
        self._tables[owner] = table
        self._grow(table, num_tokens)
        return True

    def extend(self, owner: str, num_tokens: int) -> bool:
        """Let the owner's blocks hold `num_tokens` in all. False, and nothing done, if too few blocks are free."""
        table = self._tables[owner]
        if self.num_blocks_for(num_tokens) - len(table.block_ids) > self.num_free:
            return False
        self._grow(table, num_tokens)
        return True

    def record(self, owner: str, token_ids: Sequence[int], num_computed: int) -> None:
        """The owner's first `num_computed` tokens are in the cache now: whole blocks of them can be matched."""
        table = self._tables[owner]
        for index in range(len(table.hashes), num_computed // self.block_size):
            parent = table.hashes[-1] if table.hashes else hash_salt(table.salt)
            start = index * self.block_size
            block_hash = hash_block(parent, token_ids[start : start + self.block_size])
            table.hashes.append(block_hash)
            # Two owners may compute the same content at the same time; the first to finish is the one that is matched.
            if block_hash not in self._block_of:
                self._block_of[block_hash] = table.block_ids[index]
                self._hash_of[table.block_ids[index]] = block_hash

    def free(self, owner: str, *, forget: bool = False) -> None:
        """Take the owner's blocks back; what was recorded stays matchable, unless `forget` (the content is bad)."""
        # In reverse, so that the end of a prefix is evicted before its beginning.
        for block_id in reversed(self._tables.pop(owner).block_ids):
            if forget:
                self._forget(block_id)
            self._release(block_id)

    def check_integrity(self) -> None:
        """Raise `BlockPoolCorrupt` unless every block and every swap slot is in exactly one state, and every count and
        hash agrees."""
        holders = Counter(block_id for table in self._tables.values() for block_id in table.block_ids)
        self._check("holders of each block", dict(holders), self._num_holders)
        every_block = sorted([*self._free, *self._cached, *self._num_holders])
        self._check("free, cached and held blocks", every_block, list(range(self.num_blocks)))
        self._check("hashes", {block: hash_ for hash_, block in self._block_of.items()}, self._hash_of)
        self._check("cached blocks without a hash", [b for b in self._cached if b not in self._hash_of], [])
        self._check("free blocks with a hash", [b for b in self._free if b in self._hash_of], [])
        self._check("swap area", self.swap.faults(), [])

    def _freed_by(self, owners: Collection[str]) -> set[int]:
        """The blocks that nobody would hold if all these owners gave theirs up."""
        given_up = Counter(block_id for owner in owners for block_id in self._tables[owner].block_ids)
        return {block_id for block_id, count in given_up.items() if self._num_holders[block_id] == count}

    @staticmethod
    def _check(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise BlockPoolCorrupt(f"{what}: found {found!r}, expected {expected!r}")

    def _grow(self, table: _Table, num_tokens: int) -> None:
        for _ in range(self.num_blocks_for(num_tokens) - len(table.block_ids)):
            block_id = self._free.pop() if self._free else self._evict()
            self._num_holders[block_id] = 1
            table.block_ids.append(block_id)

    def _evict(self) -> int:
        block_id, _ = self._cached.popitem(last=False)
        self._forget(block_id)
        return block_id

    def _hold(self, block_id: int) -> None:
        self._cached.pop(block_id, None)
        self._num_holders[block_id] = self._num_holders.get(block_id, 0) + 1

    def _release(self, block_id: int) -> None:
        self._num_holders[block_id] -= 1
        if self._num_holders[block_id] > 0:
            return
        del self._num_holders[block_id]
        if block_id in self._hash_of:
            self._cached[block_id] = None
        else:
            self._free.append(block_id)

    def _forget(self, block_id: int) -> None:
        block_hash = self._hash_of.pop(block_id, None)
        if block_hash is not None:
            del self._block_of[block_hash]
