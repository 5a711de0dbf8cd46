"""What counts as a whole answer, and when its text came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.answers import AnswerBroken, read_answer
from benchmarks.event_stream import Arrival
from tests.benchmarks.factories import make_answer

USAGE: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}


def text(piece: str) -> dict[str, Any]:
    return {"id": "cmpl-1", "choices": [{"index": 0, "text": piece, "finish_reason": None}], "usage": None}


def arrivals(*objects: dict[str, Any], done: bool = True) -> list[Arrival]:
    """One a second, from second 11 on."""
    data = [json.dumps(each).encode() for each in objects] + ([b"[DONE]"] if done else [])
    return [Arrival(11.0 + index, b"data: " + each + b"\n\n") for index, each in enumerate(data)]


def test_an_answer_has_the_times_of_its_text_and_the_counts_of_its_usage() -> None:
    answer = read_answer(10.0, arrivals(text("a"), text("b"), USAGE), 2)

    assert answer.ttft_s == 1.0
    assert answer.gaps_s == [1.0]
    assert (answer.num_prompt_tokens, answer.num_output_tokens) == (9, 2)


def test_an_event_without_text_is_no_token() -> None:
    answer = read_answer(10.0, arrivals(text(""), text("a"), text("b"), USAGE), 2)

    assert answer.text_times_s == (12.0, 13.0)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (arrivals(text("a"), {"error": {"message": "replica lost"}}), "replica lost"),
        (arrivals(text("a"), text("b"), USAGE, done=False), "broke off after 3 events"),
        (arrivals(text("a"), text("b")), "usage None"),
        (arrivals(USAGE), "0 pieces of text"),
        ([], "broke off after 0 events"),
        ([Arrival(1.0, b"data: {oops\n\n")], "no completion"),
    ],
)
def test_anything_less_than_a_whole_answer_is_broken(stream: list[Arrival], says: str) -> None:
    with pytest.raises(AnswerBroken, match=says):
        read_answer(10.0, stream, 2)


def test_an_answer_of_another_length_is_broken() -> None:
    with pytest.raises(AnswerBroken, match="expected 128 output tokens, got 2"):
        read_answer(10.0, arrivals(text("a"), text("b"), USAGE), 128)


def test_tokens_until_a_time_are_those_whose_events_had_come() -> None:
    answer = make_answer(1.0, 2.0, 3.0, num_output_tokens=6)

    assert [answer.tokens_until(at_s) for at_s in (0.5, 2.0, 9.0)] == [0, 4, 6]


def test_tpot_is_the_mean_over_the_tokens_after_the_first() -> None:
    assert make_answer(1.0, 2.0, 4.0).tpot_s == 1.5
    assert make_answer(1.0).tpot_s is None
