"""Owns a fit of seconds to kinds of work, learned from one observation after another. Knows no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: What an older observation counts beside the one after it.
_MEMORY = 0.98
#: An observation beyond this many times what was expected says more about the machine than about the work.
_MOST_OVER = 3.0
#: Rounds of refining after each observation; the next goes on from there.
_NUM_SWEEPS = 4
#: A change by a smaller share of a price ends them.
_LEAST_CHANGE = 1e-3
#: How far an observation lies from what the work costs, as a share of it.
_NOISE = 0.1


@dataclass(frozen=True, slots=True)
class Prior:
    """What a price is taken to be until observations say otherwise, in prices of the first kind: about so much, give or
    take a deviation."""

    mean: float
    deviation: float


class CostFit:
    """seconds = the sum of each kind's price times how much of it there was; no price is negative.

    Least squares of errors as shares of what was expected, with exponential forgetting, by coordinate descent from the
    prices before (Wright, "Coordinate descent algorithms", 2015), projected onto what is not negative. Of kinds that
    cannot be told apart one with a prior keeps to it; without any, the earlier one takes what is not explained yet.

    priors: by kind, of those that have one. prices_s: by kind, seconds for one of it.
    """

    def __init__(self, num_kinds: int, priors: Mapping[int, Prior] | None = None) -> None:
        self.prices_s = [0.0] * num_kinds
        self._kinds = range(num_kinds)
        self._priors = [(priors or {}).get(kind) for kind in self._kinds]
        self._products = [[0.0] * num_kinds for _ in self._kinds]
        self._missed = [0.0] * num_kinds  # what the prices leave unexplained: half of the error's slope along each

    def observe(self, work: Sequence[float], took_s: float, times: int = 1) -> None:
        """So much work of each kind has taken so long, above 0; `times` one after another."""
        expected_s = sum(price_s * amount for price_s, amount in zip(self.prices_s, work, strict=True))
        if expected_s > 0:
            took_s = min(took_s, _MOST_OVER * expected_s)
        present = [kind for kind in self._kinds if work[kind]]
        kept = _MEMORY**times
        self._forget(present, math.sqrt(kept))
        weight = (1 - kept) / (1 - _MEMORY) / (expected_s or took_s) ** 2
        self._add(work, present, took_s - expected_s, weight)
        for _ in range(_NUM_SWEEPS):
            if not self._sweep():
                return

    def _forget(self, present: list[int], kept: float) -> None:
        """What is known of kinds that are not in this work is not forgotten over it, and prices that fit go on to."""
        for kind in present:
            self._missed[kind] *= kept
            row = self._products[kind]
            for other in self._kinds:
                row[other] *= kept
                self._products[other][kind] = row[other] if other != kind else row[other] * kept

    def _add(self, work: Sequence[float], present: list[int], missed_s: float, weight: float) -> None:
        for kind in present:
            weighted, row = weight * work[kind], self._products[kind]
            self._missed[kind] += weighted * missed_s
            for other in present:
                row[other] += weighted * work[other]

    def _sweep(self) -> bool:
        """Each price in turn becomes what fits best beside the others. False where none has changed by much."""
        prices_s, missed, has_changed = self.prices_s, self._missed, False
        for kind, row in enumerate(self._products):
            own, prior, price_s = row[kind], self._priors[kind], prices_s[kind]
            target = missed[kind] + own * price_s
            if prior is not None and prices_s[0] > 0:
                weight = (_NOISE / (prior.deviation * prices_s[0])) ** 2
                own += weight
                target += weight * prior.mean * prices_s[0]
            if own <= 0:
                continue
            prices_s[kind] = max(0.0, target / own)
            if (change_s := prices_s[kind] - price_s) != 0:
                has_changed = has_changed or abs(change_s) > _LEAST_CHANGE * price_s
                for other in self._kinds:
                    missed[other] -= row[other] * change_s
        return has_changed
