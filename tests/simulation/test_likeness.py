"""A run beside a measured service."""

from __future__ import annotations

import pytest

from simulation.likeness import Likeness, MeasuredGroup, MeasuredRun, likenesses
from simulation.play import play
from simulation.traffic import OpenLoop
from tests.simulation.scenarios import arrival, make_scenario


def test_each_class_that_both_have_is_compared() -> None:
    run = play(make_scenario(), [OpenLoop([arrival(0.0, 10, 3, service_class="urgent")], duration_s=5.0)])
    measured = MeasuredRun(
        "results.json", {"urgent": MeasuredGroup(1.6, None), "flex": MeasuredGroup(1.0, 1.0)}, output_tokens_per_s=0.5
    )
    assert likenesses(run, measured) == [
        Likeness("urgent, TTFT p50", "s", 1.6, 2.0),
        Likeness("output tokens/s", "/s", 0.5, pytest.approx(0.6)),
    ]
    assert likenesses(run, measured)[0].ratio == 1.25
