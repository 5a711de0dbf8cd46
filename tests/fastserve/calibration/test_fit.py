"""What is made of timed steps."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from fastserve.calibration.fit import FitFailed, LoopCosts, fit_engine, non_negative, spread_of
from fastserve.calibration.overheads import fit_overheads
from fastserve.calibration.step_sample import StepSample, StepShape
from fastserve.streamed_load import LoadLevel, StreamedAnswer
from scheduling.cost_model import StepCostModel
from simulation.engine_model import EngineModel, ServiceOverheads

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
    with pytest.raises(FitFailed, match="samples: expected at least 5 different steps, got 2"):
        fit_engine([StepSample(shape, 1.0) for shape in SHAPES[:2]], loop=LoopCosts())


def test_a_spread_has_the_least_and_the_most() -> None:
    spread = spread_of([2.0, 1.0, 4.0])
    assert (spread[0], spread[len(spread) // 2], spread[-1]) == (1.0, 2.0, 4.0)
    assert list(spread) == sorted(spread)


ENGINE = EngineModel(StepCostModel(base_s=0.01, prefill_token_s=0.001, decode_seq_s=0.001))


def level(num_clients: int, tpot_s: float, ttft_s: float = 1.0) -> LoadLevel:
    answer = StreamedAnswer(5.0, 5.0 + ttft_s, 5.0 + ttft_s + 10 * tpot_s, num_output_tokens=11)
    return LoadLevel(num_clients, 9.0, [answer] * num_clients)


def test_what_serving_adds_is_what_the_engine_does_not_explain() -> None:
    levels = [level(number, 1.5 * (0.01 + 0.001 * number), ttft_s=0.337) for number in (1, 8, 16)]
    overheads = fit_overheads(levels, ENGINE, num_prompt_tokens=8)
    # A prompt of eight tokens takes 18 ms, 27 while it serves: of 337, 310 are the way.
    assert overheads.slowdown == pytest.approx(1.5)
    ways = [overheads.to_queue_s, overheads.to_engine_s, overheads.to_client_s, overheads.release_s]
    assert ways == pytest.approx([0.31 / 3] * 4)


def test_the_longer_steps_of_many_clients_say_most_about_the_slowdown() -> None:
    levels = [level(1, 3 * 0.011), level(16, 1.5 * 0.026), level(32, 1.5 * 0.042)]
    assert 1.5 < fit_overheads(levels, ENGINE, 8).slowdown < 1.6


def test_a_service_that_is_as_fast_as_its_engine_adds_nothing() -> None:
    levels = [level(number, 0.01 + 0.001 * number, ttft_s=0.0) for number in (1, 8)]
    assert asdict(fit_overheads(levels, ENGINE, 8)) == pytest.approx(asdict(ServiceOverheads()))


@pytest.mark.parametrize("levels", [[level(1, 0.1)], [level(2, 0.1), level(4, 0.1)]])
def test_overheads_need_a_single_client_and_more(levels: list[LoadLevel]) -> None:
    with pytest.raises(FitFailed, match="levels: expected one with a single client, and at least one more"):
        fit_overheads(levels, ENGINE, 8)
