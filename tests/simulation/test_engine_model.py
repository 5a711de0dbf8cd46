"""What steps take on a measured engine, alone and while it serves."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scheduling.batch_plan import Plan, Slice
from scheduling.cost_model import StepCostModel
from scheduling.score import Stamp
from scheduling.sequence import Sequence
from scheduling.swap_area import BlockCopies
from simulation.engine_model import EngineModel, ServiceOverheads, num_context_tokens

MODEL = EngineModel(StepCostModel(1.0, 0.1, 0.01, 0.001, copied_block_s=5.0), prefill_context_s=0.0001, block_bytes=100)


def part(start: int, num_tokens: int) -> Slice:
    sequence = Sequence("a", Stamp(0, 0), [0] * (start + num_tokens), start + num_tokens, 100)
    return Slice(sequence, start, num_tokens, completes=True)


def test_a_step_costs_its_decodes_their_context_and_its_prompts_with_theirs() -> None:
    plan = Plan(decode=[part(10, 1), part(30, 1)], prefill=[part(20, 4)])
    expected = 1.0 + 2 * 0.01 + 40 * 0.001 + 4 * 0.1 + 4 * (20 + 2) * 0.0001
    assert MODEL.plan_s(plan, num_context_tokens(plan)) == pytest.approx(expected)


def test_a_single_token_of_a_prompt_costs_what_a_decode_does() -> None:
    plan = Plan(decode=[part(10, 1)], prefill=[part(30, 1)])
    assert MODEL.plan_s(plan, 10) == pytest.approx(1.0 + 2 * 0.01 + 40 * 0.001)


def test_tokens_beyond_a_number_cost_more_whoever_they_are_of() -> None:
    bent = EngineModel(StepCostModel(1.0, 0.1, 0.01), dearer_rows=((2, 0.5), (5, 0.25)))
    plan = Plan(decode=[part(10, 1), part(30, 1)], prefill=[part(0, 4)])
    assert bent.plan_s(plan, 40) == pytest.approx(1.0 + 0.02 + 0.4 + 4 * 0.5 + 1 * 0.25)
    assert bent.decodes_s(3, 0) == pytest.approx(1.03 + 0.5)
    assert ServiceOverheads(slowdown=2.0).slow_down(bent).decodes_s(3, 0) == pytest.approx(2 * 1.53)


def test_copies_are_paid_beside_the_step() -> None:
    plan = Plan(decode=[part(10, 1)], copies=BlockCopies(outward=[(0, 0)], inward=[(1, 1)]))
    assert MODEL.plan_s(plan, 10) == pytest.approx(1.0 + 0.01 + 0.01)
    assert MODEL.copies_s(plan) == pytest.approx(10.0)


def test_a_step_of_prompts_alone_attends_to_nobodys_context() -> None:
    assert MODEL.plan_s(Plan(prefill=[part(0, 10)]), 999) == pytest.approx(1.0 + 1.0 + 10 * 5 * 0.0001)


def test_serving_slows_all_that_a_step_does_down() -> None:
    served = ServiceOverheads(slowdown=1.5).slow_down(MODEL)
    assert served.decodes_s(2, 30) == pytest.approx(1.5 * MODEL.decodes_s(2, 30))
    assert served.step.prefill_token_s == pytest.approx(1.5 * MODEL.step.prefill_token_s)
    assert served.prefill_context_s == pytest.approx(1.5 * MODEL.prefill_context_s)
    assert served.spread == MODEL.spread


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prefill_context_s": -1.0}, "prefill_context_s: expected a finite number of seconds of at least 0, got -1.0"),
        ({"prefill_context_s": math.nan}, "prefill_context_s"),
        ({"dearer_rows": ((8, -1.0),)}, "dearer_rows: expected a finite number of seconds of at least 0, got -1.0"),
        ({"block_bytes": -1}, "block_bytes: expected at least 0, got -1"),
        ({"spread": ()}, "spread: expected finite factors above 0 that never fall, got"),
        ({"spread": (1.0, 0.5)}, "spread"),
        ({"spread": (0.0, 1.0)}, "spread"),
        ({"spread": (1.0, math.inf)}, "spread"),
    ],
)
def test_a_cost_that_cannot_be_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EngineModel(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"release_s": -0.5}, r"release_s: expected a finite number of seconds of at least 0, got -0\.5"),
        ({"slowdown": 0.0}, r"slowdown: expected a finite number above 0, got 0\.0"),
        ({"slowdown": math.nan}, "slowdown"),
    ],
)
def test_an_overhead_that_cannot_be_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ServiceOverheads(**fields)
