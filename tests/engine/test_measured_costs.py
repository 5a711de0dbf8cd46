"""What preemption costs here, learned from steps and copies."""

from __future__ import annotations

import pytest

from engine.measured_costs import MeasuredCosts
from scheduling.cost_model import EngineCosts


def test_before_the_first_measurement_the_stated_defaults_hold() -> None:
    assert MeasuredCosts(4096).latest == EngineCosts(block_bytes=4096)


def test_the_first_measurement_replaces_the_default_and_later_ones_are_averaged() -> None:
    costs = MeasuredCosts(1000)
    costs.observe_step(100, 0, took_s=0.2)
    assert costs.latest.prefill_token_s == pytest.approx(0.002)
    costs.observe_step(100, 0, took_s=0.7)
    assert costs.latest.prefill_token_s == pytest.approx(0.002 + 0.2 * 0.005)
    costs.observe_copies(10, took_s=0.01)
    assert costs.latest.copy_bytes_per_s == pytest.approx(1e6)


def test_what_decodes_take_is_not_counted_against_the_prefill_beside_them() -> None:
    costs = MeasuredCosts(1000)
    costs.observe_step(0, 8, took_s=0.05)
    costs.observe_step(100, 8, took_s=0.15)
    assert costs.latest.prefill_token_s == pytest.approx(0.001)


def test_steps_with_hardly_any_prefill_and_clocks_that_stand_still_teach_nothing() -> None:
    costs = MeasuredCosts(1000)
    costs.observe_step(4, 30, took_s=9.0)
    costs.observe_step(100, 0, took_s=0.0)
    costs.observe_copies(3, took_s=0.0)
    assert costs.latest == EngineCosts(block_bytes=1000)
