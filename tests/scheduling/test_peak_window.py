"""The largest number that was seen lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduling.peak_window import PeakWindow

times_and_numbers = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 9)), min_size=1)


@given(seen=times_and_numbers, since_s=st.floats(0, 100))
def test_it_is_the_largest_since_then_or_the_latest_where_nothing_was_seen_since(
    seen: list[tuple[float, int]], since_s: float
) -> None:
    in_order = sorted(seen, key=lambda one: one[0])
    window = PeakWindow()
    for now_s, number in in_order:
        window.see(number, now_s)

    lately = [number for now_s, number in seen if now_s >= since_s]
    assert window.peak_since(since_s) == max(lately, default=in_order[-1][1])


def test_what_is_asked_for_no_more_is_forgotten_and_the_latest_is_not() -> None:
    window = PeakWindow()
    window.see(9, 1.0)
    window.see(3, 2.0)
    window.forget_before(50.0)
    assert window.peak_since(0.0) == 3


def test_it_knows_whether_anything_was_seen() -> None:
    window = PeakWindow()
    assert not window
    window.see(0, 1.0)
    assert window
