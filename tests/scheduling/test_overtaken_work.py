"""Work that is overtaken for a while, against serving it second by second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.overtaken_work import LEAST_SHARE, seconds_to_serve
from scheduling.score import PolicyName, ScorePolicy

streams = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 4)), max_size=5)


def played(num_tokens: float, overtaking: list[tuple[float, float]], step_s: float = 0.01) -> float:
    """Ten tokens a second, in small steps."""
    seconds = 0.0
    while num_tokens > 0:
        seconds += step_s
        num_tokens -= step_s * (10.0 - sum(per_s for until_s, per_s in overtaking if seconds <= until_s))
    return seconds


def test_nobody_comes_and_it_takes_what_the_rate_says() -> None:
    assert seconds_to_serve(100, 10, []) == 10


def test_those_that_go_first_for_ever_leave_the_rest_of_the_rate_but_never_nothing() -> None:
    assert seconds_to_serve(100, 10, [(float("inf"), 6)]) == pytest.approx(25)
    assert seconds_to_serve(100, 10, [(float("inf"), 60)]) == pytest.approx(100 / (LEAST_SHARE * 10))


@given(st.floats(1, 200), streams)
def test_it_is_what_serving_it_step_by_step_takes(num_tokens: float, overtaking: list[tuple[float, float]]) -> None:
    if sum(per_s for _, per_s in overtaking) <= (1 - LEAST_SHARE) * 10:
        expected = played(num_tokens, overtaking)
        assert seconds_to_serve(num_tokens, 10, overtaking) == pytest.approx(expected, rel=0.01, abs=0.1)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("aged", 50), ("strict", float("inf")), ("fcfs", 0), ("sjf", 0), ("hrrn", 0), ("skip_join_mlfq", 0)],
)
def test_only_where_priority_counts_do_those_who_come_later_overtake(name: PolicyName, seconds: float) -> None:
    assert ScorePolicy(name=name).overtakes_for_s(5) == seconds
    assert ScorePolicy(name=name).overtakes_for_s(-5) == 0
