"""Ratios come from pairs, and the sides take turns at going first."""

from __future__ import annotations

from benchmarks.peers.pairs import Comparison, comparisons, in_turn


def test_the_ratio_is_the_median_of_the_pairs_ratios() -> None:
    """A slow pair is slow for both, and drops out of its ratio."""
    comparison = Comparison("m", ours=[10.0, 2.0, 30.0], peers=[5.0, 1.0, 10.0])

    assert comparison.ratios == [2.0, 2.0, 3.0]
    assert comparison.ratio == 2.0


def test_the_sides_take_turns_at_going_first() -> None:
    order: list[str] = []

    def side(name: str) -> list[float]:
        order.append(name)
        return [float(len(order))]

    pairs = in_turn(3, lambda _: side("a"), lambda _: side("b"))

    assert order == ["a", "b", "b", "a", "a", "b"]
    assert pairs == [([1.0], [2.0]), ([4.0], [3.0]), ([5.0], [6.0])]


def test_rates_are_sorted_by_measure() -> None:
    found = comparisons(["x", "y"], [([1.0, 2.0], [3.0, 4.0]), ([5.0, 6.0], [7.0, 8.0])])

    assert found == [Comparison("x", [1.0, 5.0], [3.0, 7.0]), Comparison("y", [2.0, 6.0], [4.0, 8.0])]
