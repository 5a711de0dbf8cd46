"""Large bodies share a room; whoever goes gives back all that it took, once."""

from __future__ import annotations

import pytest

from deployments.api.body_room import FREE_BYTES, BodyRoom
from deployments.errors import BodiesFull


def test_a_body_counts_from_where_it_is_larger_than_an_ordinary_one_until_it_leaves() -> None:
    room = BodyRoom(lambda: 100)
    with room.place() as first, room.place() as second:
        first.grow(FREE_BYTES)
        assert room.num_bytes == 0
        first.grow(FREE_BYTES + 60)
        second.grow(FREE_BYTES + 40)
        assert room.num_bytes == 100
        with pytest.raises(BodiesFull, match="fill the 100 bytes"):
            second.grow(FREE_BYTES + 41)
        first.leave()
        second.grow(FREE_BYTES + 100)
        assert room.num_bytes == 100
    assert room.num_bytes == 0


def test_one_body_alone_may_be_larger_than_the_room() -> None:
    room = BodyRoom(lambda: 100)
    with room.place() as alone:
        alone.grow(FREE_BYTES + 1000)
        with room.place() as other, pytest.raises(BodiesFull):
            other.grow(FREE_BYTES + 1)
