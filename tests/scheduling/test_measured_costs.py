"""What preemption costs here, learned from steps and copies."""

from __future__ import annotations

import random

import pytest

from scheduling.batch_plan import Slice
from scheduling.cost_model import EngineCosts
from scheduling.measured_costs import MeasuredCosts
from tests.scheduling.batching import make_sequence


def test_before_the_first_measurement_the_stated_defaults_hold() -> None:
    assert MeasuredCosts(4096).latest == EngineCosts(block_bytes=4096)


def prefill(num_tokens: int, start: int = 0) -> list[Slice]:
    sequence = make_sequence("a", num_tokens=start + num_tokens)
    return [Slice(sequence, start, num_tokens, True)]


def test_the_first_measurement_replaces_the_default_and_later_ones_are_averaged() -> None:
    costs = MeasuredCosts(1000)
    costs.observe_step(prefill(100), 0, took_s=0.2)
    assert costs.latest.prefill_token_s == pytest.approx(0.002)
    costs.observe_step(prefill(100), 0, took_s=0.3)
    assert 0.002 < costs.latest.prefill_token_s < 0.003
    costs.observe_copies(10, took_s=0.01)
    assert costs.latest.copy_bytes_per_s == pytest.approx(1e6)
    costs.observe_copies(10, took_s=0.02)
    assert 1 / costs.latest.copy_bytes_per_s == pytest.approx(1.2e-6)


def test_what_decodes_take_is_not_counted_against_the_prefill_beside_them() -> None:
    costs = MeasuredCosts(1000)
    for num_tokens in (50, 100, 200) * 20:
        costs.observe_step([], 8, took_s=0.05)
        costs.observe_step(prefill(num_tokens), 8, took_s=0.05 + 0.001 * num_tokens)
    assert costs.latest.prefill_token_s == pytest.approx(0.001, rel=0.01)


def test_the_context_of_a_prompt_has_a_price_of_its_own() -> None:
    costs = MeasuredCosts(1000)
    for start in (0, 1000, 2000, 3000) * 50:
        costs.observe_step(prefill(16, start), 0, took_s=16 * (0.001 + 5e-7 * (start + 8)))
    assert costs.latest.prefill_token_s == pytest.approx(0.001, rel=0.01)
    assert costs.latest.context_token_s == pytest.approx(5e-7, rel=0.01)


def test_more_decodes_take_longer_as_far_as_has_been_seen() -> None:
    costs = MeasuredCosts(1000)
    for num_decodes in (1, 4, 16, 32) * 50:
        costs.observe_step([], num_decodes, took_s=0.01 + 0.001 * num_decodes)
    assert costs.latest.decodes_s(8) == pytest.approx(0.018, rel=0.01)


def test_an_engine_that_never_decodes_alone_learns_what_decodes_cost() -> None:
    costs, rng = MeasuredCosts(1000), random.Random(1)
    costs.observe_step([], 1, took_s=0.011)
    for _ in range(400):
        num_decodes, num_tokens = rng.randint(8, 32), rng.randint(16, 96)
        took_s = (0.01 + 0.001 * num_decodes + 0.0008 * num_tokens) * rng.uniform(0.9, 1.1)
        costs.observe_step(prefill(num_tokens), num_decodes, took_s)
    assert costs.latest.decodes_s(30) == pytest.approx(0.04, rel=0.1)
    assert costs.latest.prefill_s(64) == pytest.approx(0.051, rel=0.1)


def test_clocks_that_stand_still_teach_nothing() -> None:
    costs = MeasuredCosts(1000)
    costs.observe_step(prefill(100), 0, took_s=0.0)
    costs.observe_copies(3, took_s=0.0)
    assert costs.latest == EngineCosts(block_bytes=1000)
