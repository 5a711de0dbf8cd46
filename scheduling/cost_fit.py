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
        self._priors = [(priors or {}).get(kind) for kind in range(num_kinds)]
        self._products = [[0.0] * num_kinds for _ in range(num_kinds)]
        self._targets = [0.0] * num_kinds

    def observe(self, work: Sequence[float], took_s: float, times: int = 1) -> None:
        """So much work of each kind has taken so long, above 0; `times` one after another."""
        expected_s = sum(map(float.__mul__, self.prices_s, map(float, work)))
        if expected_s > 0:
            took_s = min(took_s, _MOST_OVER * expected_s)
        self._add(work, took_s, expected_s or took_s, times)
        for _ in range(_NUM_SWEEPS):
            self._sweep()

    def _add(self, work: Sequence[float], took_s: float, scale_s: float, times: int) -> None:
        """What is known of kinds that are not in this work is not forgotten over it."""
        kept = _MEMORY**times
        self._forget([math.sqrt(kept) if amount else 1.0 for amount in work])
        weight = (1 - kept) / (1 - _MEMORY) / scale_s**2
        for kind, amount in enumerate(work):
            row, weighted = self._products[kind], weight * amount
            for other, its_amount in enumerate(work):
                row[other] += weighted * its_amount
            self._targets[kind] += weighted * took_s

    def _forget(self, kept: Sequence[float]) -> None:
        """So that prices which fit go on to fit."""
        prices_s = self.prices_s
        for kind, row in enumerate(self._products):
            missed = self._targets[kind] - sum(map(float.__mul__, row, prices_s))
            for other, its_kept in enumerate(kept):
                row[other] *= kept[kind] * its_kept
            self._targets[kind] = kept[kind] * missed + sum(map(float.__mul__, row, prices_s))

    def _sweep(self) -> None:
        """Each price in turn becomes what fits best beside the others."""
        prices_s = self.prices_s
        for kind, row in enumerate(self._products):
            own, prior = row[kind], self._priors[kind]
            target = self._targets[kind] - sum(map(float.__mul__, row, prices_s)) + own * prices_s[kind]
            if prior is not None and prices_s[0] > 0:
                weight = (_NOISE / (prior.deviation * prices_s[0])) ** 2
                own += weight
                target += weight * prior.mean * prices_s[0]
            if own > 0:
                prices_s[kind] = max(0.0, target / own)
