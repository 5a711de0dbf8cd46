"""Steps that take longer or shorter, and what runs of them take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.step_tape import StepTape

TAPE = StepTape([0.5, 1.0, 2.0], seed=1, num_factors=50)


@given(st.integers(0, 40), st.integers(0, 10), st.floats(0, 1), st.floats(0, 0.1))
def test_a_run_takes_what_its_steps_take_one_by_one(place: int, number: int, first_s: float, growth_s: float) -> None:
    singly_s = sum(TAPE.factor(place + step) * (first_s + growth_s * step) for step in range(number))
    assert TAPE.run_s(place, number, first_s, growth_s) == pytest.approx(singly_s, abs=1e-9)


@given(st.integers(0, 30), st.integers(1, 20), st.floats(0.01, 1), st.floats(0, 0.1), st.floats(0, 30))
def test_the_fewest_steps_that_last_so_long_are_found(
    place: int, most: int, first_s: float, growth_s: float, elapsed_s: float
) -> None:
    found = TAPE.num_steps_within(place, most, first_s, growth_s, elapsed_s)
    lasts = [TAPE.run_s(place, number, first_s, growth_s) >= elapsed_s for number in range(1, most)]
    assert found == (lasts.index(True) + 1 if True in lasts else most)


def test_factors_keep_to_their_spread() -> None:
    factors = sorted(StepTape([0.5, 1.0, 3.0], seed=2, num_factors=4001).factor(place) for place in range(4001))
    assert (factors[0] >= 0.5, factors[-1] <= 3.0) == (True, True)
    assert factors[2000] == pytest.approx(1.0, abs=0.05)
    assert factors[3000] == pytest.approx(2.0, abs=0.1)


def test_a_spread_of_one_factor_changes_nothing() -> None:
    tape = StepTape([1.0], seed=3)
    assert tape.run_s(7, 10, 0.5, 0.1) == pytest.approx(10 * 0.5 + 0.1 * 45)


def test_the_same_seed_gives_the_same_tape_and_another_one_another() -> None:
    spread = [0.5, 1.5]
    one, same, other = (StepTape(spread, seed=seed) for seed in (1, 1, 2))
    assert one.run_s(0, 100, 1, 0) == same.run_s(0, 100, 1, 0) != other.run_s(0, 100, 1, 0)
