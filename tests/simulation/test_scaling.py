"""Replicas that come and go as the policy says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from scheduling.autoscaling import ScalingLimits
from scheduling.load import ClassObjective
from simulation.outcome import Outcome
from simulation.play import play as figures_of
from simulation.scaling import Scaling
from simulation.scenario import Scenario
from simulation.traffic import OpenLoop
from simulation.workload import Arrival
from tests.simulation.scenarios import arrival, make_scenario, make_shape, play

ONE_SLOT = make_shape(max_num_seqs=1, preemption="off")


def scaled(num_replicas: int = 1, startup_s: float = 20.0, **limits: Any) -> Scenario:
    scaling = Scaling(
        ScalingLimits(max_replicas=4, downscale_window_s=60.0, idle_window_s=60.0, **limits),
        {"standard": ClassObjective(0.0, 10.0)},
        startup_s,
    )
    return make_scenario(shape=ONE_SLOT, num_replicas=num_replicas, scaling=scaling)


def crowd(number: int, at_s: float = 0.0) -> list[Arrival]:
    """A request a second, each of eleven seconds on a slot."""
    return [arrival(at_s + place, num_prompt_tokens=10, num_output_tokens=10) for place in range(number)]


def test_a_backlog_brings_more_replicas_and_less_waiting() -> None:
    fixed, moving = (
        figures_of(scenario, [OpenLoop(crowd(60))]) for scenario in (replace(scaled(), scaling=None), scaled())
    )
    assert (fixed.fleet.most_replicas, moving.fleet.most_replicas) == (1, 4)
    assert moving.total.ttft.p99_s < 0.6 * fixed.total.ttft.p99_s
    assert moving.total.outcomes == {"answered": 60}


def test_a_new_replica_serves_when_it_has_started() -> None:
    slow, quick = (figures_of(scaled(startup_s=startup_s), [OpenLoop(crowd(40))]) for startup_s in (60.0, 5.0))
    assert quick.total.ttft.p50_s < slow.total.ttft.p50_s


def test_replicas_go_when_fewer_have_been_enough_for_long_and_lose_nobody() -> None:
    arrivals = [*crowd(60), *(arrival(300.0 + 30 * place) for place in range(20))]
    figures = figures_of(scaled(), [OpenLoop(arrivals)])
    replicas = [moment.num_replicas for moment in figures.moments]
    assert max(replicas) == 4
    assert replicas[-1] == 1
    assert figures.total.outcomes == {"answered": 80}
    assert figures.fleet.replica_hours < 4 * figures.duration_s / 3600


def test_without_a_replica_the_first_request_wakes_one() -> None:
    ended = play(scaled(num_replicas=0, min_replicas=0), [arrival(5.0)])
    assert [each.outcome for each in ended] == [Outcome.ANSWERED]
    # Asked for within a second, and there twenty seconds later.
    assert 20.0 < (ended[0].queue_s or 0.0) <= 21.0


def test_an_idle_model_gives_its_last_replica_back() -> None:
    figures = figures_of(scaled(min_replicas=0), [OpenLoop([arrival(0.0), arrival(200.0)])])
    assert {0, 1} <= {moment.num_replicas for moment in figures.moments}
    assert figures.total.outcomes == {"answered": 2}


def test_who_runs_on_a_replica_that_goes_is_answered_there() -> None:
    arrivals = [*crowd(40), arrival(150.0, 10, 200), *(arrival(160.0 + 10 * place) for place in range(30))]
    ended = play(scaled(), arrivals)
    assert Counter(each.outcome for each in ended) == {Outcome.ANSWERED: len(arrivals)}


def test_a_start_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"startup_s: expected a finite number of at least 0, got -1\.0"):
        Scaling(ScalingLimits(), {}, startup_s=-1.0)
