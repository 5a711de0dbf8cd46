"""Frames come out of a byte stream as they went in, and none may be too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.framing import FrameBuffer, FrameTooLarge, frame


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(min_value=1, max_value=9))
def test_payloads_come_out_whole_however_the_bytes_arrive(payloads: list[bytes], piece: int) -> None:
    stream = b"".join(map(frame, payloads))
    buffer, taken = FrameBuffer(), []
    for start in range(0, len(stream), piece):
        buffer.feed(stream[start : start + piece])
        taken += buffer.take()
    assert taken == payloads


def test_a_frame_beyond_the_limit_is_refused_on_both_sides() -> None:
    with pytest.raises(FrameTooLarge, match="101 bytes; at most 100"):
        frame(b"x" * 101, max_bytes=100)
    buffer = FrameBuffer(max_bytes=100)
    buffer.feed((101).to_bytes(4))
    with pytest.raises(FrameTooLarge, match="101 bytes; at most 100"):
        buffer.take()
