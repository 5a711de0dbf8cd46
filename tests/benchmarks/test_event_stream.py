"""Recorded streams, however the connection cut them."""

from __future__ import annotations

import pytest

from benchmarks.event_stream import Arrival, Event, events


def test_each_data_line_is_an_event_at_the_time_when_it_came() -> None:
    arrivals = [Arrival(1.0, b"data: a\n\n"), Arrival(2.0, b"data: b\n\ndata: c\n\n")]

    assert list(events(arrivals)) == [Event(1.0, b"a"), Event(2.0, b"b"), Event(2.0, b"c")]


@pytest.mark.parametrize("cut", range(1, 9))
def test_an_event_in_two_parts_came_with_its_second(cut: int) -> None:
    line = b"data: ab\n"

    assert list(events([Arrival(1.0, line[:cut]), Arrival(2.0, line[cut:])])) == [Event(2.0, b"ab")]


def test_comments_other_fields_and_carriage_returns_say_nothing() -> None:
    arrivals = [Arrival(1.0, b": ping\r\nevent: message\r\ndata:a\r\n\r\n")]

    assert list(events(arrivals)) == [Event(1.0, b"a")]


def test_a_line_without_its_end_is_no_event() -> None:
    assert list(events([Arrival(1.0, b"data: half")])) == []
