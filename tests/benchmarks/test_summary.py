"""Percentiles, the order of rounds, and what rounds come to."""

from __future__ import annotations

import pytest

from benchmarks.summary import alternating_rounds, percentile, summarise
from tests.benchmarks.factories import make_answer, make_run


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (25, 1.75), (50, 2.5), (95, 3.85), (100, 4.0)])
def test_a_percentile_lies_on_the_line_between_its_neighbours(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == pytest.approx(expected)


def test_every_percentile_of_one_value_is_that_value_and_of_none_there_is_none() -> None:
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) is None


def test_every_other_round_goes_backwards() -> None:
    assert alternating_rounds([1, 8, 32], 3) == [[1, 8, 32], [32, 8, 1], [1, 8, 32]]


def test_the_rate_is_the_median_round_of_all_its_tokens() -> None:
    rounds = [make_run(8, make_answer(0.1, 0.2), make_answer(0.1, 0.2), took_s=took_s) for took_s in (1.0, 2.0, 0.5)]

    (level,) = summarise(rounds)

    assert level.output_tokens_per_s == 4.0
    assert level.output_tokens_per_s_by_round == [4.0, 2.0, 8.0]


def test_latencies_are_taken_over_all_answers_of_all_rounds() -> None:
    first = make_answer(10.1, 10.3, started_s=10.0)
    second = make_answer(0.3, 0.4)

    (level,) = summarise([make_run(1, first), make_run(1, second)])

    assert level.ttft_p50_ms == pytest.approx(200)
    assert level.ttft_p95_ms == pytest.approx(290)
    assert level.itl_p50_ms == pytest.approx(150)
    assert level.itl_p99_ms == pytest.approx(199)


def test_levels_stand_apart_fewest_clients_first() -> None:
    levels = summarise([make_run(8, make_answer(0.1)), make_run(1, make_answer(0.1)), make_run(8, make_answer(0.1))])

    assert [(level.num_clients, level.num_answers) for level in levels] == [(1, 1), (8, 2)]


def test_several_tokens_in_one_event_show() -> None:
    (level,) = summarise([make_run(1, make_answer(0.1, 0.2, num_output_tokens=6))])

    assert level.tokens_per_event == 3.0


def test_a_level_in_which_all_failed_has_no_latencies() -> None:
    (level,) = summarise([make_run(32, num_failed=3)])

    assert (level.num_answers, level.num_failed, level.output_tokens_per_s) == (0, 3, 0.0)
    assert level.ttft_p50_ms is level.itl_p99_ms is level.tokens_per_event is None
