"""Our policy beside Serve's own rule on the same virtual traffic: the figures of decision 12."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from ray.serve.autoscaling_policy import _apply_delay_logic
from ray.serve.config import AutoscalingConfig

from scheduling.autoscaling import Autoscaler, ScalingDecision, ScalingLoad, ScalingReason
from tests.scheduling.scaling import (
    SLOTS,
    STEP_S,
    TOKENS_PER_S,
    FluidModel,
    flex,
    limits,
    square_wave,
    standard,
)

LOOK_BACK_S = 30.0
SECONDS = 7_200
PEAK = 3.2 * TOKENS_PER_S


class ServesRule:
    """Requests, waiting and running, by the target for each replica: the mean of the look-back, then Serve's delays."""

    def __init__(self, **delays: float) -> None:
        self._config = AutoscalingConfig(max_replicas=20, target_ongoing_requests=SLOTS, **delays)
        self._state: dict[str, Any] = {}
        self._counts: deque[float] = deque(maxlen=round(LOOK_BACK_S / STEP_S))

    def decide(self, load: ScalingLoad, now_s: float) -> ScalingDecision:
        self._counts.append(sum(one.num_waiting + one.num_running for one in load.classes))
        wanted = math.ceil(sum(self._counts) / len(self._counts) / self._config.get_target_ongoing_requests())
        bounded = max(1, min(20, wanted))
        decided, self._state = _apply_delay_logic(bounded, load.num_ordered, self._config, self._state, now_s)
        return ScalingDecision(decided, ScalingReason.COUNTS)


def played(autoscaler: Any, traffic: Callable[[float], float], make_class: Any = standard) -> FluidModel:
    return FluidModel(autoscaler, make_class).run(traffic, SECONDS)


def step(now_s: float) -> float:
    """Half of what a replica serves, and from the tenth minute on what takes more than three."""
    return PEAK if now_s >= 600 else 0.5 * TOKENS_PER_S


@pytest.mark.parametrize(
    ("half_period_s", "delays", "num_turns"),
    [
        (120.0, {"upscale_delay_s": 30, "downscale_delay_s": 600}, 19),
        (120.0, {"upscale_delay_s": 30, "downscale_delay_s": 300}, 29),
        (250.0, {"upscale_delay_s": 0, "downscale_delay_s": 60}, 29),
    ],
)
def test_a_square_wave_turns_serves_rule_again_and_again_and_ours_once(
    half_period_s: float, delays: dict[str, float], num_turns: int
) -> None:
    wave = square_wave(PEAK, half_period_s)
    assert played(ServesRule(**delays), wave).num_turns == num_turns
    assert played(Autoscaler(limits()), wave).num_turns <= 1


def test_a_step_is_followed_with_fewer_replicas_and_less_time_late() -> None:
    theirs = played(ServesRule(upscale_delay_s=30, downscale_delay_s=300), step)
    ours = played(Autoscaler(limits()), step)
    assert (round(theirs.late_s), max(theirs.history)) == (80, 15)
    assert (round(ours.late_s), max(ours.history)) == (30, 8)


def test_a_crowd_below_priority_0_has_no_replica_but_its_own() -> None:
    def crowd(now_s: float) -> float:
        return 5 * TOKENS_PER_S

    assert max(played(ServesRule(upscale_delay_s=30, downscale_delay_s=300), crowd, flex).history) == 20
    assert max(played(Autoscaler(limits()), crowd, flex).history) == 1
