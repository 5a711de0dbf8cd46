"""When requests of an open loop come."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.processes import Diurnal, GammaBursts, OnOffBursts, Poisson, Process

PROCESSES = [Poisson(5.0), GammaBursts(5.0, 3.0), OnOffBursts(20.0, 0.0, 1.0, 3.0), Diurnal(5.0, 1.0, 60.0)]


def times(process: Process, number: int, seed: int = 1) -> list[float]:
    return list(itertools.islice(process.times_s(random.Random(seed)), number))


def gaps(times_s: list[float]) -> list[float]:
    return [later - sooner for sooner, later in itertools.pairwise([0.0, *times_s])]


@pytest.mark.parametrize("process", PROCESSES)
@given(seed=st.integers())
def test_times_never_fall_and_are_the_same_for_the_same_seed(process: Process, seed: int) -> None:
    drawn = times(process, 50, seed)

    assert drawn == sorted(drawn)
    assert drawn[0] >= 0
    assert drawn == times(process, 50, seed)


@pytest.mark.parametrize("process", PROCESSES)
def test_another_seed_gives_other_times(process: Process) -> None:
    assert times(process, 5, seed=1) != times(process, 5, seed=2)


@pytest.mark.parametrize("process", PROCESSES)
def test_in_the_long_run_the_rate_is_the_one_asked_for(process: Process) -> None:
    assert 40_000 / times(process, 40_000)[-1] == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("variation", [0.5, 1.0, 4.0])
def test_gamma_gaps_vary_as_asked(variation: float) -> None:
    drawn = gaps(times(GammaBursts(5.0, variation), 40_000))

    assert statistics.pstdev(drawn) / statistics.fmean(drawn) == pytest.approx(variation, rel=0.05)


def test_nobody_comes_while_bursts_are_off() -> None:
    drawn = gaps(times(OnOffBursts(1000.0, 0.0, mean_on_s=0.1, mean_off_s=10.0), 2000))

    assert statistics.median(drawn) < 0.01
    assert max(drawn) > 1.0


def test_a_diurnal_rate_is_high_in_the_first_half_of_the_period_and_low_in_the_second() -> None:
    process = Diurnal(5.0, amplitude=0.8, period_s=100.0)
    halves = [at_s % 100.0 < 50.0 for at_s in times(process, 20_000)]

    assert process.rate_per_s(25.0) == pytest.approx(9.0)
    assert process.rate_per_s(75.0) == pytest.approx(1.0)
    assert sum(halves) / len(halves) == pytest.approx(0.5 + 0.8 / math.pi, abs=0.02)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Poisson(0.0), "rate_per_s: expected a finite number above 0, got 0.0"),
        (lambda: Poisson(math.nan), "rate_per_s: expected a finite number above 0, got nan"),
        (lambda: GammaBursts(1.0, math.inf), "coefficient_of_variation"),
        (lambda: OnOffBursts(1.0, -1.0, 1.0, 1.0), "off_rate_per_s: expected 0 or more, and finite, got -1.0"),
        (lambda: OnOffBursts(1.0, 0.0, 1.0, 0.0), "mean_off_s"),
        (lambda: Diurnal(1.0, 1.5, 60.0), "amplitude: expected a share from 0 to 1, got 1.5"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(make: type, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
