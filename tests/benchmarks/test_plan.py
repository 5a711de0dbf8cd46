"""What is sent and when."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.plan import (
    SHIPPED,
    Words,
    idle_arrivals,
    load_arrivals,
    mean_output_tokens,
)
from fastserve.traffic_file import read_traffic
from simulation.replay import Piece, Replay, TraceTooShort
from simulation.traces import Trace
from simulation.workload import Recorded, Scale, Size
from tests.benchmarks.factories import make_arrival

TRAFFIC = read_traffic(SHIPPED)
#: A request a second for a hundred seconds.
TRACE = Trace(tuple(Recorded(float(number), Size(100 + number, 10)) for number in range(101)), num_skipped=2)


def test_the_idle_phase_is_the_most_urgent_class_alone_at_even_gaps() -> None:
    arrivals = idle_arrivals(TRAFFIC, 4, rate_per_s=2.0, seed=1)

    assert [each.at_s for each in arrivals] == [0.0, 0.5, 1.0, 1.5]
    assert {(each.service_class, each.priority) for each in arrivals} == {("urgent", 10.0)}


def test_a_load_is_the_same_for_the_same_seed_and_ends_with_its_duration() -> None:
    first, again, other = (load_arrivals(TRAFFIC, None, 50.0, 10.0, seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert len(first) == pytest.approx(500, rel=0.2)
    assert all(each.at_s < 10.0 for each in first)


def test_a_replayed_trace_has_the_rate_asked_for_and_its_own_lengths_scaled() -> None:
    replay = Replay("trace.csv", TRACE, Scale(prompt=0.5, max_output_tokens=4))
    arrivals = load_arrivals(TRAFFIC, replay, rate_per_s=2.0, duration_s=20.0, seed=1)

    assert [each.at_s for each in arrivals] == [number / 2 for number in range(40)]
    assert [(each.num_prompt_tokens, each.num_output_tokens) for each in arrivals[:2]] == [(50, 4), (50, 4)]
    assert {each.service_class for each in arrivals} == {"urgent", "standard", "flex"}


def test_a_replayed_trace_can_keep_the_classes_lengths() -> None:
    replay = Replay("trace.csv", TRACE, None)
    arrivals = load_arrivals(TRAFFIC, replay, rate_per_s=1.0, duration_s=50.0, seed=1)

    assert len(arrivals) == 50
    assert {each.num_output_tokens for each in arrivals if each.service_class == "flex"} == {192}
    assert replay.recorded_lengths is None


def test_a_piece_has_the_rate_asked_for_however_slowly_the_trace_began() -> None:
    """A request every ten seconds at first, then ten a second."""
    slow = [Recorded(number * 10.0, Size(1, 1)) for number in range(11)]
    fast = [Recorded(100.0 + number / 10, Size(1, 1)) for number in range(1, 100)]
    replay = Replay("trace.csv", Trace((*slow, *fast), 0), Scale())

    arrivals = load_arrivals(TRAFFIC, replay, rate_per_s=5.0, duration_s=4.0, seed=1)

    assert len(arrivals) == 20
    assert replay.piece(5.0, 4.0) == Piece(20, pytest.approx(101.0 / 4.0))
    assert arrivals[-1].at_s < 4.0


def test_without_a_rate_the_traces_own_beginning_gives_it() -> None:
    assert Replay("trace.csv", TRACE, None).recorded_rate_per_s(50.0) == 1.0


def test_a_trace_that_is_too_short_is_an_error_that_says_what_is_missing() -> None:
    replay = Replay("trace.csv", TRACE, Scale())

    with pytest.raises(TraceTooShort, match=r"trace.csv: expected more than 120 requests, .* 2 requests/s .* got 101"):
        load_arrivals(TRAFFIC, replay, rate_per_s=2.0, duration_s=60.0, seed=1)
    with pytest.raises(TraceTooShort, match=r"expected at least 200 s of traffic, got 100\.0 s"):
        replay.recorded_rate_per_s(200.0)
    with pytest.raises(TraceTooShort, match="at more than one time"):
        Replay("trace.csv", Trace((TRACE.requests[0],) * 9, 0), None).piece(1.0, 5.0)


def test_a_replay_says_how_the_trace_was_changed() -> None:
    words = Replay("trace.csv", TRACE, Scale(prompt=0.5, max_output_tokens=4)).in_words(2.0, 20.0)

    assert words == (
        "The first 40 requests of `trace.csv` (101, 2 broken rows left out) at 2 times their recorded speed, "
        "prompts 0.5 and answers 1 times as long as recorded, answers cut at 4"
    )
    assert "with the classes' lengths" in Replay("trace.csv", TRACE, None).in_words(1.0, 20.0)


def test_prompts_have_about_the_tokens_asked_for_and_never_return() -> None:
    words = Words(tokens_per_word=1.5, nonce=7)
    planned = list(words.planned([make_arrival(num_prompt_tokens=30)] * 50, "load 0"))

    assert {each.prompt.count(" ") + 1 for each in planned} == {20}
    assert len({each.prompt for each in planned}) == 50
    others = [*words.planned([make_arrival(num_prompt_tokens=30)] * 50, "load 1")]
    others += Words(1.5, nonce=8).planned([make_arrival(num_prompt_tokens=30)] * 50, "load 0")
    assert {each.prompt for each in planned} & {each.prompt for each in others} == set()


def test_both_sides_are_asked_in_the_same_words() -> None:
    arrivals = list(itertools.repeat(make_arrival(), 3))

    assert list(Words(1.0, 7).planned(arrivals, "load 0")) == list(Words(1.0, 7).planned(arrivals, "load 0"))


def test_the_mean_answer_is_that_of_the_mix() -> None:
    assert mean_output_tokens(TRAFFIC, seed=1) == pytest.approx(0.1 * 32 + 0.4 * 96 + 0.5 * 192, rel=0.03)
