"""What serving adds, worked out from what a single client and a crowd saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastserve.calibration.crowd import Crowd, played_s
from fastserve.calibration.fit import FitFailed
from fastserve.calibration.overheads import fit_overheads
from fastserve.streamed_load import LoadLevel, StreamedAnswer
from scheduling.cost_model import StepCostModel
from simulation.engine_model import EngineModel, ServiceOverheads
from simulation.scenario import Scenario
from tests.simulation.scenarios import make_shape

ENGINE = EngineModel(StepCostModel(base_s=0.01, prefill_token_s=0.001, decode_seq_s=0.001), spread=(0.9, 1.1))
SCENARIO = Scenario("here", make_shape(max_num_seqs=4, num_blocks=400), ENGINE)
CROWD = Crowd(num_clients=4, num_each=3, num_prompt_tokens=30, num_output_tokens=20)


def alone(ttft_s: float, num_clients: int = 1) -> LoadLevel:
    return LoadLevel(num_clients, 9.0, [StreamedAnswer(5.0, 5.0 + ttft_s, 6.0 + ttft_s, num_output_tokens=11)] * 3)


def took_s(overheads: ServiceOverheads) -> float:
    return played_s(replace(SCENARIO, overheads=overheads), CROWD)


def test_a_crowd_asks_each_time_after_its_last_answer() -> None:
    even = Scenario("here", make_shape(), EngineModel(StepCostModel(base_s=1.0)))
    assert played_s(even, Crowd(num_clients=2, num_each=3, num_prompt_tokens=8, num_output_tokens=5)) == 15.0


@pytest.mark.parametrize("slowdown", [0.9, 1.0, 1.4])
def test_what_serving_adds_is_what_makes_the_twin_take_as_long(slowdown: float) -> None:
    true = ServiceOverheads(0.1, 0.1, 0.1, 0.1, slowdown)
    # A prompt of eight tokens takes 18 ms alone.
    found = fit_overheads(alone(0.3 + slowdown * 0.018), 8, ENGINE, took_s(true), took_s)
    assert found.slowdown == pytest.approx(slowdown, rel=0.01)
    assert found.to_queue_s == found.to_engine_s == found.to_client_s == found.release_s == pytest.approx(0.1, rel=0.02)


def test_a_first_token_sooner_than_its_step_has_no_way_to_go() -> None:
    found = fit_overheads(alone(0.001), 8, ENGINE, took_s(ServiceOverheads()), took_s)
    assert (found.to_queue_s, found.slowdown) == (0.0, pytest.approx(1.0, rel=0.01))


def test_overheads_need_a_single_client() -> None:
    with pytest.raises(FitFailed, match="alone: expected answers to a single client, got 3 to 2"):
        fit_overheads(alone(0.1, num_clients=2), 8, ENGINE, 1.0, took_s)
