"""Block accounting: nothing lost, nothing held twice by mistake, and only true prefixes reused."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scheduling.kv_blocks import BlockPool, BlockPoolCorrupt, PrefixMatch

NOTHING = PrefixMatch()


def make_pool(num_blocks: int = 8, block_size: int = 4) -> BlockPool:
    return BlockPool(num_blocks, block_size)


def run(pool: BlockPool, owner: str, token_ids: list[int], salt: str = "") -> int:
    """Allocate, compute and record a prompt; the number of tokens that were cached."""
    match = pool.match_prefix(token_ids, salt)
    assert pool.allocate(owner, len(token_ids), match, salt)
    pool.record(owner, token_ids, len(token_ids))
    return len(match.block_ids) * pool.block_size


def test_an_owner_gets_just_the_blocks_that_its_tokens_need() -> None:
    pool = make_pool()
    assert pool.allocate("a", 9, NOTHING)
    assert len(pool.block_table("a")) == 3
    assert (pool.num_used, pool.num_free) == (3, 5)


def test_what_does_not_fit_changes_nothing() -> None:
    pool = make_pool(num_blocks=2)
    assert not pool.allocate("a", 9, NOTHING)
    assert pool.allocate("b", 8, NOTHING)
    assert not pool.extend("b", 9)
    assert (len(pool.block_table("b")), pool.num_free) == (2, 0)
    pool.check_integrity()


def test_extending_takes_a_block_only_when_the_last_is_full() -> None:
    pool = make_pool()
    pool.allocate("a", 3, NOTHING)
    assert pool.extend("a", 4)
    assert pool.num_used == 1
    assert pool.extend("a", 5)
    assert pool.num_used == 2


def test_blocks_of_a_running_owner_are_shared_with_the_same_prefix() -> None:
    pool = make_pool()
    assert run(pool, "a", [1] * 8 + [2]) == 0
    assert run(pool, "b", [1] * 8 + [3]) == 8
    assert pool.block_table("a")[:2] == pool.block_table("b")[:2]
    assert pool.num_used == 4


def test_blocks_outlive_their_owner_until_somebody_needs_the_room() -> None:
    pool = make_pool(num_blocks=3)
    run(pool, "a", [1] * 9)
    pool.free("a")
    assert pool.num_free == 3
    assert run(pool, "b", [1] * 9) == 8
    pool.free("b")
    run(pool, "c", [2] * 12)
    pool.free("c")
    assert pool.match_prefix([1] * 9) == NOTHING


def test_the_end_of_a_prefix_is_evicted_before_its_beginning() -> None:
    pool = make_pool(num_blocks=3)
    run(pool, "a", [1] * 12)
    pool.free("a")
    run(pool, "b", [2] * 4)
    assert len(pool.match_prefix([1] * 12).block_ids) == 2


def test_the_least_recently_used_prefix_is_evicted_first() -> None:
    pool = make_pool(num_blocks=2)
    for owner, token in (("a", 1), ("b", 2)):
        run(pool, owner, [token] * 4)
        pool.free(owner)
    run(pool, "again", [1] * 4 + [9])
    assert pool.match_prefix([1] * 5).block_ids
    assert not pool.match_prefix([2] * 5).block_ids


@pytest.mark.parametrize(("num_tokens", "num_matched"), [(4, 0), (5, 1), (8, 1), (9, 2)])
def test_a_prompt_is_never_matched_whole(num_tokens: int, num_matched: int) -> None:
    pool = make_pool()
    run(pool, "a", [1] * 12)
    assert len(pool.match_prefix([1] * num_tokens).block_ids) == num_matched


def test_equal_blocks_after_different_ones_are_not_the_same() -> None:
    pool = make_pool()
    run(pool, "a", [1] * 4 + [2] * 4 + [0])
    assert not pool.match_prefix([2] * 4 + [0]).block_ids
    assert len(pool.match_prefix([1] * 4 + [3] * 4 + [0]).block_ids) == 1


def test_different_salts_share_nothing() -> None:
    pool = make_pool()
    run(pool, "a", [1] * 8, salt="tenant a")
    assert not pool.match_prefix([1] * 8, "tenant b").block_ids
    assert pool.match_prefix([1] * 8, "tenant a").block_ids


def test_only_what_was_computed_can_be_matched() -> None:
    pool = make_pool()
    pool.allocate("a", 9, NOTHING)
    assert not pool.match_prefix([1] * 9).block_ids
    pool.record("a", [1] * 9, 7)
    assert len(pool.match_prefix([1] * 9).block_ids) == 1


def test_the_blocks_of_a_faulty_owner_are_forgotten_even_where_they_are_shared() -> None:
    pool = make_pool()
    run(pool, "a", [1] * 9)
    run(pool, "b", [1] * 9)
    pool.free("a", forget=True)
    assert not pool.match_prefix([1] * 9).block_ids
    pool.free("b")
    pool.check_integrity()


def test_room_that_others_would_give_up_is_counted_once() -> None:
    pool = make_pool(num_blocks=6)
    run(pool, "a", [1] * 8 + [2])
    run(pool, "b", [1] * 8 + [3])
    assert pool.num_lacking(24, NOTHING) == 4
    assert pool.num_lacking(24, NOTHING, given_up=["a"]) == 3
    assert pool.num_lacking(24, NOTHING, given_up=["a", "b"]) == 0
    assert pool.num_lacking(24, NOTHING, 2, ["a", "b"]) == 2


def test_a_reused_block_that_its_holder_gives_up_is_not_room_as_well() -> None:
    pool = make_pool(num_blocks=3)
    run(pool, "a", [1] * 12)
    match = pool.match_prefix([1] * 12)
    assert pool.num_lacking(12, match) == 1
    assert pool.num_lacking(12, match, given_up=["a"]) == 0
    assert pool.num_lacking(16, match, given_up=["a"]) == 1


def test_books_that_do_not_balance_are_noticed() -> None:
    pool = make_pool()
    pool.allocate("a", 4, NOTHING)
    pool._free.append(pool.block_table("a")[0])
    with pytest.raises(BlockPoolCorrupt, match="free, cached and held blocks"):
        pool.check_integrity()


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 4), (4, 0)])
def test_sizes_must_be_positive(num_blocks: int, block_size: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        BlockPool(num_blocks, block_size)


class PoolLife(RuleBasedStateMachine):
    """Owners come, grow and go in any order; after each step the books balance and the content is as it was written."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = make_pool(num_blocks=7, block_size=2)
        self.tokens: dict[str, list[int]] = {}
        self.num_computed: dict[str, int] = {}
        self.content: dict[int, tuple[str, tuple[int, ...]]] = {}  # block: salt and all tokens up to its end
        self.num_owners = 0

    @rule(token_ids=st.lists(st.integers(0, 1), min_size=1, max_size=9), salt=st.sampled_from(["", "s"]))
    def start(self, token_ids: list[int], salt: str) -> None:
        match = self.pool.match_prefix(token_ids, salt)
        for index, block_id in enumerate(match.block_ids):
            assert self.content[block_id] == (salt, tuple(token_ids[: 2 * (index + 1)]))
        owner = f"{salt}{self.num_owners}"
        self.num_owners += 1
        num_free, lacking = self.pool.num_free, self.pool.num_lacking(len(token_ids), match)
        assert self.pool.allocate(owner, len(token_ids), match, salt) == (lacking == 0)
        if lacking:
            assert self.pool.num_free == num_free
            return
        self.tokens[owner] = token_ids
        self.num_computed[owner] = len(match.block_ids) * 2

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), num_tokens=st.integers(1, 4))
    def compute(self, data: st.DataObject, num_tokens: int) -> None:
        owner = data.draw(st.sampled_from(sorted(self.tokens)))
        start = self.num_computed[owner]
        end = min(start + num_tokens, len(self.tokens[owner]))
        table = self.pool.block_table(owner)
        for index in range(start // 2, end // 2):
            self.content[table[index]] = (owner.rstrip("0123456789"), tuple(self.tokens[owner][: 2 * (index + 1)]))
        self.num_computed[owner] = end
        self.pool.record(owner, self.tokens[owner], end)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), token=st.integers(0, 1))
    def generate(self, data: st.DataObject, token: int) -> None:
        owner = data.draw(st.sampled_from(sorted(self.tokens)))
        if self.pool.extend(owner, len(self.tokens[owner]) + 1):
            self.tokens[owner] = [*self.tokens[owner], token]

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), forget=st.booleans())
    def end(self, data: st.DataObject, forget: bool) -> None:
        owner = data.draw(st.sampled_from(sorted(self.tokens)))
        self.pool.free(owner, forget=forget)
        del self.tokens[owner]

    @invariant()
    def the_books_balance(self) -> None:
        self.pool.check_integrity()
        for owner, token_ids in self.tokens.items():
            assert len(self.pool.block_table(owner)) == self.pool.num_blocks_for(len(token_ids))
        if not self.tokens:
            assert self.pool.num_used == 0


TestPoolLife = PoolLife.TestCase
