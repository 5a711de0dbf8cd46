"""The knee of a closed loop, and the loop against a service in this process."""

from __future__ import annotations

import itertools
import threading

import pytest

from benchmarks.asking import Asking, PriorityRuns
from benchmarks.attempt import Refusal
from benchmarks.capacity import Capacity, ClosedLevel, measure_capacity, output_tokens_per_s
from fastserve.errors import ServerFailed
from tests.benchmarks.factories import make_answer, make_outcome, make_planned
from tests.benchmarks.stub_completions import Completions, stub_completions


def levels(*rates: float) -> Capacity:
    return Capacity([ClosedLevel(4 * 2**position, rate, rate * 100) for position, rate in enumerate(rates)])


def test_the_knee_is_the_fewest_clients_that_get_nearly_the_highest_rate() -> None:
    assert levels(1.0, 1.9, 3.0, 3.1).knee.num_clients == 16
    assert levels(2.0, 2.0, 1.0).knee.num_clients == 4


def test_a_service_is_saturated_when_twice_the_clients_bring_little_more() -> None:
    assert not levels(1.0).is_saturated
    assert not levels(1.0, 1.9).is_saturated
    assert levels(1.0, 1.9, 1.95).is_saturated
    assert levels(1.0, 1.9, 1.2).is_saturated


def test_a_levels_rate_counts_tokens_between_two_times_also_those_of_answers_that_went_on() -> None:
    outcomes = [make_outcome(make_answer(1.0, 3.0, 5.0)), make_outcome(make_answer(4.0, 9.0))]

    assert output_tokens_per_s(outcomes, 2.0, 6.0) == pytest.approx(3 / 4)


def test_a_refused_request_is_no_measure_of_capacity() -> None:
    with pytest.raises(ServerFailed, match="expected answers only, got Refusal"):
        output_tokens_per_s([make_outcome(Refusal(429, 1.0))], 0.0, 1.0)


async def test_clients_are_doubled_until_that_brings_nothing_and_all_ask_at_once() -> None:
    """The service answers nobody before four ask, and everybody from then on."""
    completions = Completions()
    completions.together = threading.Barrier(4, action=lambda: setattr(completions, "together", None))
    with stub_completions(completions) as url:
        capacity = await measure_capacity(
            url, Asking("stub", PriorityRuns.UNSENT, 10.0), itertools.repeat(make_planned()), 3.0, 0.2, 4096
        )

    assert [level.num_clients for level in capacity.levels[:2]] == [4, 8]
    assert capacity.is_saturated
    for level in capacity.levels:
        assert level.output_tokens_per_s == pytest.approx(level.requests_per_s * 3.0)


async def test_a_service_that_never_fills_up_is_an_error_that_says_what_to_change() -> None:
    with stub_completions(Completions()) as url, pytest.raises(ServerFailed, match="allow more clients"):
        await measure_capacity(
            url, Asking("stub", PriorityRuns.UNSENT, 10.0), itertools.repeat(make_planned()), 3.0, 0.1, 4
        )
