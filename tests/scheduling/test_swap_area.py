"""Slots: who holds them, when they are free again, and books that balance."""

from __future__ import annotations

import pytest

from scheduling.kv_blocks import BlockPool, BlockPoolCorrupt
from scheduling.swap_area import SwapArea


def test_blocks_come_back_from_the_slots_that_they_went_to() -> None:
    area = SwapArea(4)
    slots = [slot for _, slot in area.put("a", [7, 3, 9])]
    assert (len(set(slots)), area.num_free, area.num_used, area.holds("a")) == (3, 1, 3, True)
    assert area.take("a", [5, 6, 8, 4], first=1) == [(slots[1], 6), (slots[2], 8)]
    assert (area.holds("a"), area.num_used) == (False, 0)


def test_a_slot_that_is_still_to_be_read_is_given_to_nobody_until_the_next_plan() -> None:
    area = SwapArea(2)
    area.put("a", [0, 1])
    area.take("a", [2, 3])
    assert area.num_free == 0
    area.settle()
    assert area.num_free == 2


def test_slots_that_nobody_will_read_are_free_at_once() -> None:
    area = SwapArea(2)
    area.put("a", [0, 1])
    area.drop("a")
    area.drop("never swapped")
    assert area.num_free == 2


def test_a_negative_number_of_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="num_slots: expected at least 0, got -1"):
        SwapArea(-1)


def test_a_slot_that_is_lost_or_doubled_shows_in_the_pools_books() -> None:
    pool = BlockPool(2, 4, num_swap_slots=2)
    pool.swap.put("a", [0])
    pool.check_integrity()
    pool.swap._free.append(pool.swap._slots["a"][0])
    with pytest.raises(BlockPoolCorrupt, match="swap area"):
        pool.check_integrity()
    pool.swap._free.clear()
    with pytest.raises(BlockPoolCorrupt, match="expected 2 in all"):
        pool.check_integrity()
