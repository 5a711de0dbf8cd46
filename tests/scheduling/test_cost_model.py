"""What a step costs."""

from __future__ import annotations

import math

import pytest

from scheduling.cost_model import EngineCosts, StepCostModel, StepWork


def test_a_step_costs_the_sum_of_its_parts() -> None:
    cost = StepCostModel(base_s=1.0, prefill_token_s=0.1, decode_seq_s=0.01, context_token_s=0.001)
    assert cost.cost_s(StepWork()) == 1.0
    assert cost.cost_s(StepWork(num_prefill_tokens=3, num_decode_seqs=4, num_context_tokens=5)) == pytest.approx(1.345)


@pytest.mark.parametrize("figure", ["base_s", "prefill_token_s", "decode_seq_s", "context_token_s", "copied_block_s"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_figure_that_is_no_cost_is_refused_by_name(figure: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{figure}: expected a finite number of at least 0"):
        StepCostModel(**{figure: value})


def test_a_recompute_costs_its_tokens_and_a_swap_its_bytes_both_ways() -> None:
    costs = EngineCosts(prefill_token_s=0.01, copy_bytes_per_s=1000.0, block_bytes=50)
    assert costs.recompute_s(7) == pytest.approx(0.07)
    assert costs.swap_s(4) == pytest.approx(2 * 4 * 50 / 1000)


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"prefill_token_s": 0.0}, "prefill_token_s: expected a finite number above 0, got 0.0"),
        ({"copy_bytes_per_s": math.inf}, "copy_bytes_per_s: expected a finite number above 0, got inf"),
        ({"block_bytes": -1}, "block_bytes: expected a finite number of at least 0, got -1"),
    ],
)
def test_a_figure_that_preemption_cannot_cost_is_refused_by_name(figures: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EngineCosts(**figures)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [0, 100, 5000])
@pytest.mark.parametrize("context_token_s", [0.0, 1e-6, 1e-3])
def test_the_most_tokens_within_a_time_take_no_longer_and_one_more_would(start: int, context_token_s: float) -> None:
    costs = EngineCosts(prefill_token_s=1e-3, context_token_s=context_token_s)
    for seconds in (0.0005, 0.01, 1.0):
        most = costs.prefill_within(seconds, start)
        assert costs.prefill_s(most, start) <= seconds * (1 + 1e-6)
        assert costs.prefill_s(most + 1, start) > seconds
    assert costs.prefill_within(-0.1, start) == 0


def test_decodes_take_a_fixed_part_and_one_for_each() -> None:
    costs = EngineCosts(prefill_token_s=1e-9, decode_step_s=0.01, decode_seq_s=0.002)
    assert costs.decodes_s(5) == pytest.approx(0.02)
    assert costs.decodes_s(0) == 0
