"""Owns when requests of an open loop come: Poisson, in bursts, or by the hour. Knows nothing of what they ask."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from simulation.requirement import require, require_positive


class Process(Protocol):
    """When requests come, whatever became of those before."""

    def times_s(self, rng: random.Random) -> Iterator[float]:
        """Seconds after the beginning, never falling, without end."""
        ...


@dataclass(frozen=True, slots=True)
class Poisson:
    """Requests that know nothing of each other."""

    rate_per_s: float

    def __post_init__(self) -> None:
        require_positive(self, "rate_per_s")

    def times_s(self, rng: random.Random) -> Iterator[float]:
        return _poisson(rng, self.rate_per_s, 0.0, math.inf)


@dataclass(frozen=True, slots=True)
class GammaBursts:
    """Gaps from a Gamma distribution. coefficient_of_variation: of the gaps; 1 is Poisson, more comes in bursts."""

    rate_per_s: float
    coefficient_of_variation: float

    def __post_init__(self) -> None:
        require_positive(self, "rate_per_s", "coefficient_of_variation")

    def times_s(self, rng: random.Random) -> Iterator[float]:
        variance = self.coefficient_of_variation**2
        gaps_s = (rng.gammavariate(1 / variance, variance / self.rate_per_s) for _ in itertools.count())
        return itertools.accumulate(gaps_s)


@dataclass(frozen=True, slots=True)
class OnOffBursts:
    """Poisson at two rates in turn, `on` first; each state lasts an exponentially distributed time."""

    on_rate_per_s: float
    off_rate_per_s: float
    mean_on_s: float
    mean_off_s: float

    def __post_init__(self) -> None:
        require_positive(self, "on_rate_per_s", "mean_on_s", "mean_off_s")
        require(0 <= self.off_rate_per_s < math.inf, "off_rate_per_s", self.off_rate_per_s, "0 or more, and finite")

    def times_s(self, rng: random.Random) -> Iterator[float]:
        starts_s = 0.0
        states = ((self.on_rate_per_s, self.mean_on_s), (self.off_rate_per_s, self.mean_off_s))
        for rate_per_s, mean_s in itertools.cycle(states):
            ends_s = starts_s + rng.expovariate(1 / mean_s)
            yield from _poisson(rng, rate_per_s, starts_s, ends_s)
            starts_s = ends_s


@dataclass(frozen=True, slots=True)
class Diurnal:
    """Poisson whose rate follows a sine: by `amplitude`, a share of the mean, up in the first half of each period."""

    mean_rate_per_s: float
    amplitude: float
    period_s: float

    def __post_init__(self) -> None:
        require_positive(self, "mean_rate_per_s", "period_s")
        require(0 <= self.amplitude <= 1, "amplitude", self.amplitude, "a share from 0 to 1")

    def rate_per_s(self, at_s: float) -> float:
        return self.mean_rate_per_s * (1 + self.amplitude * math.sin(math.tau * at_s / self.period_s))

    def times_s(self, rng: random.Random) -> Iterator[float]:
        """Thinning (Lewis and Shedler, 1979): Poisson at the peak rate, each kept with the chance rate over peak."""
        peak_per_s = self.mean_rate_per_s * (1 + self.amplitude)
        candidates = _poisson(rng, peak_per_s, 0.0, math.inf)
        return (at_s for at_s in candidates if rng.random() * peak_per_s < self.rate_per_s(at_s))


def _poisson(rng: random.Random, rate_per_s: float, starts_s: float, ends_s: float) -> Iterator[float]:
    """From one time up to another."""
    at_s = starts_s
    while rate_per_s > 0:
        at_s += rng.expovariate(rate_per_s)
        if at_s >= ends_s:
            return
        yield at_s
