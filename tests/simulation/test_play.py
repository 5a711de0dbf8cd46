"""A run's figures, worked out by hand."""

from __future__ import annotations

import pytest

from scheduling.admission import AdmissionBounds
from simulation.objectives import Objectives
from simulation.play import play
from simulation.results import FleetFigures, Moment, OrderFigures, Times
from simulation.traffic import OpenLoop
from tests.simulation.factories import first
from tests.simulation.scenarios import arrival, make_scenario, make_shape

ONE_SLOT = make_shape(max_num_seqs=1, preemption="off")


def test_figures_are_by_class_and_by_tenant() -> None:
    arrivals = [
        arrival(0.0, 10, 3, service_class="urgent", tenant="one"),
        arrival(1.0, 10, 3, service_class="urgent", tenant="other"),
        arrival(2.0, 10, 1, service_class="flex", tenant="other"),
    ]
    # Alone on its slot each takes two seconds, and one for each further token: 0 to 4, 4 to 8, 8 to 10.
    figures = play(make_scenario(shape=ONE_SLOT, objectives={"urgent": Objectives(3.0, 1.0)}), [OpenLoop(arrivals)])
    assert figures.duration_s == 10.0
    urgent, flex = figures.classes
    assert (urgent.name, urgent.num_requests, urgent.outcomes) == ("urgent", 2, {"answered": 2})
    assert urgent.ttft == Times(3.5, pytest.approx(4.85), pytest.approx(4.97))
    assert (urgent.num_good, urgent.goodput_per_s, flex.num_good) == (1, 0.1, 1)
    assert [(each.name, each.output_tokens, each.prompt_tokens) for each in figures.tenants] == [
        ("one", 3, 10),
        ("other", 4, 20),
    ]
    assert figures.total.output_tokens_per_s == 0.7
    assert flex.tpot == Times(None, None, None)


def test_an_answer_counts_as_good_only_if_its_tokens_came_in_time_too() -> None:
    figures = play(make_scenario(objectives={"standard": Objectives(3.0, 0.9)}), [OpenLoop([arrival()])])
    assert figures.total.num_good == 0


def test_what_was_refused_counts_as_a_request_and_in_no_time() -> None:
    scenario = make_scenario(shape=ONE_SLOT, bounds=AdmissionBounds(max_waiting=1))
    figures = play(scenario, [OpenLoop([arrival(0.0), arrival(0.1), arrival(0.2)])])
    assert figures.total.outcomes == {"answered": 2, "refused": 1}
    assert len(figures.total.ttft_curve) == 101


def test_the_fleet_is_counted_for_all_the_time_that_it_was_there() -> None:
    figures = play(make_scenario(shape=make_shape(max_num_seqs=2), num_replicas=2), [OpenLoop([arrival(6.0, 10, 3)])])
    assert figures.fleet == FleetFigures(
        most_replicas=2,
        replica_hours=pytest.approx(20 / 3600),
        busy_share=4 / 20,
        slot_share=4 / 40,
        num_steps=3,
        num_preemptions_by_swap=0,
        num_preemptions_by_recompute=0,
        num_recomputed_tokens=0,
    )


def test_every_grant_is_held_against_those_who_waited() -> None:
    arrivals = [arrival(0.0), arrival(1.0), arrival(2.0, priority=1)]
    figures = play(make_scenario(shape=ONE_SLOT), [OpenLoop(arrivals)])
    # The last is granted with a head start of ten seconds over the second, which came a second before.
    assert figures.order == OrderFigures(num_checked=1, num_violations=0, smallest_slack_s=pytest.approx(9.0))


def test_rounds_begin_anew_and_are_counted_together() -> None:
    figures = play(make_scenario(shape=ONE_SLOT), [OpenLoop([arrival(0.0)]), OpenLoop([arrival(0.0)])])
    assert (figures.num_rounds, figures.duration_s, figures.total.num_requests) == (2, 8.0, 2)
    assert figures.total.ttft.p99_s == 2.0


def test_a_run_without_requests_is_an_error() -> None:
    with pytest.raises(ValueError, match="here: expected at least one request, got none"):
        play(make_scenario(), [OpenLoop([])])


def test_the_course_of_a_run_is_told_in_moments() -> None:
    figures = play(make_scenario(shape=ONE_SLOT), [OpenLoop([arrival(0.0), arrival(0.5), arrival(1.5)])])
    assert figures.moments[0] == Moment(0.0, num_waiting=0, num_running=0, num_parked=0, num_replicas=1)
    assert max(moment.num_waiting for moment in figures.moments) == 2


def test_a_long_run_has_no_more_moments_than_a_short_one() -> None:
    figures = play(make_scenario(shape=make_shape(num_blocks=400)), [OpenLoop(first(3_000, rate_per_s=0.5))])
    assert 200 <= len(figures.moments) <= 400
    gaps = [after.at_s - before.at_s for before, after in zip(figures.moments, figures.moments[1:], strict=False)]
    assert max(gaps) < 3 * figures.moments[-1].at_s / len(figures.moments)
