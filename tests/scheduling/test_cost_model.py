"""What a step costs."""

from __future__ import annotations

import math

import pytest

from scheduling.cost_model import StepCostModel, StepWork


def test_a_step_costs_the_sum_of_its_parts() -> None:
    cost = StepCostModel(base_s=1.0, prefill_token_s=0.1, decode_seq_s=0.01, context_token_s=0.001)
    assert cost.cost_s(StepWork()) == 1.0
    assert cost.cost_s(StepWork(num_prefill_tokens=3, num_decode_seqs=4, num_context_tokens=5)) == pytest.approx(1.345)


@pytest.mark.parametrize("figure", ["base_s", "prefill_token_s", "decode_seq_s", "context_token_s"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_figure_that_is_no_cost_is_refused_by_name(figure: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{figure}: expected a finite number of at least 0"):
        StepCostModel(**{figure: value})
