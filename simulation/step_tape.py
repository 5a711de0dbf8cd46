"""Owns how much longer or shorter than their model steps are, drawn once from a seed. Knows no engine and no clock."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left
from collections.abc import Sequence

_NUM_FACTORS = 1 << 14


class StepTape:
    """A factor for each step, read from any place on and round and round; runs of them are summed at once.

    spread: the factors' quantiles, evenly spaced; between two of them they are spread evenly.
    """

    def __init__(self, spread: Sequence[float], seed: int, num_factors: int = _NUM_FACTORS) -> None:
        rng = random.Random(seed)
        self._factors = [_quantile(spread, rng.random()) for _ in range(num_factors)]
        # Sums of all factors before a place, and of each times its place: what a run of steps takes that grow evenly.
        self._sums = list(itertools.accumulate(self._factors, initial=0.0))
        placed = (place * factor for place, factor in enumerate(self._factors))
        self._placed_sums = list(itertools.accumulate(placed, initial=0.0))

    def __len__(self) -> int:
        return len(self._factors)

    def factor(self, place: int) -> float:
        return self._factors[place]

    def run_s(self, place: int, num_steps: int, first_s: float, growth_s: float) -> float:
        """What so many steps from this place on take, the first `first_s`, each `growth_s` more than the one before.

        They must not reach beyond the end of the tape.
        """
        end = place + num_steps
        factors = self._sums[end] - self._sums[place]
        placed = self._placed_sums[end] - self._placed_sums[place]
        return (first_s - growth_s * place) * factors + growth_s * placed

    def num_steps_within(self, place: int, most: int, first_s: float, growth_s: float, elapsed_s: float) -> int:
        """The fewest of those steps, at least 1 and at most `most`, that take `elapsed_s` or more."""
        found = bisect_left(
            range(1, most), elapsed_s, key=lambda num_steps: self.run_s(place, num_steps, first_s, growth_s)
        )
        return found + 1


def _quantile(spread: Sequence[float], share: float) -> float:
    """Linear between the two nearest."""
    rank = share * (len(spread) - 1)
    below = int(rank)
    above = min(below + 1, len(spread) - 1)
    return spread[below] + (spread[above] - spread[below]) * (rank - below)
