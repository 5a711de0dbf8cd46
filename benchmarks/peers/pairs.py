"""Turns alternating measurements of two sides into ratios. Pure arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Turn = TypeVar("Turn")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure: each pair's two figures, ours and the peer's; a measure that names no unit is in tokens/s."""

    measure: str
    ours: list[float]
    peers: list[float]

    @property
    def ratios(self) -> list[float]:
        return [own / other for own, other in zip(self.ours, self.peers, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios: what the machine does to both in a pair drops out."""
        return statistics.median(self.ratios)


def in_turn(num_pairs: int, ours: Callable[[int], Turn], peers: Callable[[int], Turn]) -> list[tuple[Turn, Turn]]:
    """Each side once a pair, A B B A ..., so that a drift of the machine meets both alike; told the pair's number."""
    pairs = []
    for number in range(num_pairs):
        if number % 2 == 0:
            own = ours(number)
            pairs.append((own, peers(number)))
        else:
            other = peers(number)
            pairs.append((ours(number), other))
    return pairs


def comparisons(measures: Sequence[str], pairs: Sequence[tuple[list[float], list[float]]]) -> list[Comparison]:
    """By measure, from each pair's two lists of rates in the order of `measures`."""
    return [
        Comparison(measure, [own[index] for own, _ in pairs], [other[index] for _, other in pairs])
        for index, measure in enumerate(measures)
    ]
