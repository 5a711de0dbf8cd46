"""What two kinds of work cost, learned from steps that hold both."""

from __future__ import annotations

import random

import pytest

from engine.cost_fit import CostFit


def observe_mixed(fit: CostFit, first_s: float, second_s: float, num_observations: int, noise: float = 0.0) -> None:
    rng = random.Random(1)
    for _ in range(num_observations):
        first = rng.randint(8, 200)
        second = first * rng.randint(0, 4000)
        fit.observe(first, second, (first_s * first + second_s * second) * rng.uniform(1 - noise, 1 + noise))


def test_both_prices_are_found_from_work_in_different_proportions() -> None:
    fit = CostFit()
    observe_mixed(fit, 1e-3, 3e-7, 100, noise=0.1)
    assert fit.first_s == pytest.approx(1e-3, rel=0.1)
    assert fit.second_s == pytest.approx(3e-7, rel=0.1)


def test_prices_that_change_are_followed() -> None:
    fit = CostFit()
    observe_mixed(fit, 1e-3, 3e-7, 100)
    observe_mixed(fit, 2e-3, 1e-7, 200)
    assert fit.first_s == pytest.approx(2e-3, rel=0.01)
    assert fit.second_s == pytest.approx(1e-7, rel=0.01)


def test_where_the_proportion_never_changes_the_second_keeps_the_price_it_had() -> None:
    fit = CostFit()
    for _ in range(10):
        fit.observe(10, 50, 0.02)
    assert (fit.first_s, fit.second_s) == (pytest.approx(0.002), 0.0)


def test_no_price_is_negative() -> None:
    falling, steep = CostFit(), CostFit()
    for second in (0, 10, 20):
        falling.observe(1, second, 1.0 - second / 40)
        steep.observe(1, second + 1, 0.1 * second)
    assert falling.second_s == 0.0 < falling.first_s
    assert steep.first_s >= 0.0 < steep.second_s


def test_a_hiccup_of_the_machine_counts_no_more_than_three_times_what_was_expected() -> None:
    fit = CostFit()
    for _ in range(20):
        fit.observe(10, 0, 0.01)
    fit.observe(10, 0, 60.0)
    assert fit.first_s < 0.0012
