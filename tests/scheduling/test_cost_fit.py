"""What kinds of work cost, learned from steps that hold several."""

from __future__ import annotations

import random

import pytest

from scheduling.cost_fit import CostFit, Prior


def observe_mixed(fit: CostFit, first_s: float, second_s: float, num_observations: int, noise: float = 0.0) -> None:
    rng = random.Random(1)
    for _ in range(num_observations):
        first = rng.randint(8, 200)
        second = first * rng.randint(0, 4000)
        fit.observe((first, second), (first_s * first + second_s * second) * rng.uniform(1 - noise, 1 + noise))


def test_both_prices_are_found_from_work_in_different_proportions() -> None:
    fit = CostFit(2)
    observe_mixed(fit, 1e-3, 3e-7, 100, noise=0.1)
    assert fit.prices_s == [pytest.approx(1e-3, rel=0.1), pytest.approx(3e-7, rel=0.1)]


def test_prices_that_change_are_followed() -> None:
    fit = CostFit(2)
    observe_mixed(fit, 1e-3, 3e-7, 100)
    observe_mixed(fit, 2e-3, 1e-7, 500)
    assert fit.prices_s == [pytest.approx(2e-3, rel=0.01), pytest.approx(1e-7, rel=0.01)]


def test_the_same_work_many_times_is_as_if_it_was_told_each_time() -> None:
    once, each = CostFit(2), CostFit(2)
    for fit in (once, each):
        observe_mixed(fit, 1e-3, 3e-7, 200)
    once.observe((20, 1000), 0.0203, times=7)
    for _ in range(7):
        each.observe((20, 1000), 0.0203)
    assert once.prices_s == [pytest.approx(price_s) for price_s in each.prices_s]


def test_what_always_came_in_one_proportion_is_the_first_kinds() -> None:
    fit = CostFit(2)
    for _ in range(10):
        fit.observe((10, 50), 0.02)
    assert fit.prices_s == [pytest.approx(0.002), pytest.approx(0.0, abs=1e-9)]


def test_what_was_learnt_of_a_kind_is_kept_while_there_is_none_of_it() -> None:
    fit = CostFit(2)
    for second in (0, 100, 200, 300) * 50:
        fit.observe((1, second), 0.01 + 1e-4 * second)
    for _ in range(1000):
        fit.observe((1, 0), 0.01)
    fit.observe((1, 10), 0.02)  # a single one, far off
    assert fit.prices_s[1] == pytest.approx(1e-4, rel=0.1)


def test_a_kind_with_a_prior_keeps_to_it_where_it_cannot_be_told_from_another() -> None:
    fit = CostFit(2, {1: Prior(mean=0.5, deviation=0.1)})
    for _ in range(50):
        fit.observe((10, 10), 0.3)
    assert fit.prices_s == [pytest.approx(0.02, rel=0.05), pytest.approx(0.01, rel=0.1)]
    for first in (1, 10, 20) * 100:
        fit.observe((first, 10), 0.01 * first + 0.02 * 10)
    assert fit.prices_s == [pytest.approx(0.01, rel=0.15), pytest.approx(0.02, rel=0.15)]


def test_no_price_is_negative() -> None:
    falling, steep = CostFit(2), CostFit(2)
    for second in (0, 10, 20) * 20:
        falling.observe((1, second), 1.0 - second / 40)
        steep.observe((1, second + 1), 0.1 * second + 0.001)
    assert falling.prices_s[1] == 0.0 < falling.prices_s[0]
    assert steep.prices_s[0] >= 0.0 < steep.prices_s[1]


def test_a_hiccup_of_the_machine_counts_no_more_than_three_times_what_was_expected() -> None:
    fit = CostFit(2)
    for _ in range(100):
        fit.observe((10, 0), 0.01)
    fit.observe((10, 0), 60.0)
    assert fit.prices_s[0] < 0.0012
