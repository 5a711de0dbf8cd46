"""What is made of timed steps."""

from __future__ import annotations

import numpy as np
import pytest

from fastserve.calibration.fit import FitFailed, LoopCosts, fit_engine, non_negative, spread_of
from fastserve.calibration.step_sample import StepSample, StepShape

SHAPES = [
    *(StepShape(number, context) for number in (1, 4, 16) for context in (10, 1000)),
    *(StepShape(num_prefill_tokens=chunk, prefill_start=start) for chunk in (16, 256) for start in (0, 512)),
]


def took_s(shape: StepShape) -> float:
    return (
        0.01
        + 0.001 * shape.num_decodes
        + 1e-6 * shape.num_context_tokens
        + 5e-4 * shape.num_prefill_tokens
        + 2e-7 * shape.prefill_context
    )


def test_all_costs_are_found_together() -> None:
    model = fit_engine([StepSample(shape, took_s(shape)) for shape in SHAPES], loop=LoopCosts()).model
    step = model.step
    found = (step.base_s, step.decode_seq_s, step.context_token_s, step.prefill_token_s, model.prefill_context_s)
    assert found == pytest.approx((0.01, 0.001, 1e-6, 5e-4, 2e-7))


def test_what_tokens_cost_more_beyond_a_number_is_found_too() -> None:
    shapes = [
        *SHAPES,
        *(StepShape(num_prefill_tokens=number) for number in (2, 8, 32, 64, 128, 512)),
        StepShape(8),
        StepShape(32),
    ]

    def bent_s(shape: StepShape) -> float:
        return took_s(shape) + 3e-4 * max(0, shape.num_decodes + shape.num_prefill_tokens - 32)

    model = fit_engine([StepSample(shape, bent_s(shape)) for shape in shapes], loop=LoopCosts()).model
    assert dict(model.dearer_rows)[32] == pytest.approx(3e-4)
    assert model.decodes_s(40, 0) == pytest.approx(bent_s(StepShape(40)))


def test_a_step_that_was_disturbed_moves_the_spread_and_not_the_costs() -> None:
    samples = [StepSample(shape, took_s(shape) * factor) for shape in SHAPES for factor in (1, 1, 1, 1, 3)]
    fit = fit_engine(samples, loop=LoopCosts())
    assert fit.model.step.base_s == pytest.approx(0.01)
    assert (fit.model.spread[0], fit.model.spread[-1]) == (pytest.approx(1.0), pytest.approx(3.0))


def test_no_cost_is_negative() -> None:
    rows = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    costs = non_negative(rows, np.array([3.0, 2.0, 1.0]))
    assert costs == pytest.approx([2.0, 0.0])


def test_too_few_kinds_of_steps_are_said_to_be() -> None:
    with pytest.raises(FitFailed, match="samples: expected at least 8 different steps, got 2"):
        fit_engine([StepSample(shape, 1.0) for shape in SHAPES[:2]], loop=LoopCosts())


def test_a_spread_has_the_least_and_the_most() -> None:
    spread = spread_of([2.0, 1.0, 4.0])
    assert (spread[0], spread[len(spread) // 2], spread[-1]) == (1.0, 2.0, 4.0)
    assert list(spread) == sorted(spread)
