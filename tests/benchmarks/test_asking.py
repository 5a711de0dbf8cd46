"""What a request says, and which way its priority runs."""

from __future__ import annotations

import pytest

from benchmarks.asking import Asking, PriorityRuns
from tests.benchmarks.factories import make_planned


def asking(priority_runs: PriorityRuns = PriorityRuns.HIGHER_FIRST) -> Asking:
    return Asking("stub", priority_runs, 10.0, api_keys={"research": "secret"})


def test_a_request_is_streamed_greedy_of_a_fixed_length_and_says_its_priority() -> None:
    assert asking().body(make_planned("urgent", num_output_tokens=7)) == {
        "model": "stub",
        "prompt": "river stone",
        "max_tokens": 7,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "priority": 10,
    }


@pytest.mark.parametrize(
    ("runs", "urgent", "standard", "flex"),
    [(PriorityRuns.HIGHER_FIRST, 10, 0, -10), (PriorityRuns.LOWER_FIRST, -10, 0, 10)],
)
def test_priority_runs_the_way_of_the_service_and_is_a_whole_number_where_it_can_be(
    runs: PriorityRuns, urgent: int, standard: int, flex: int
) -> None:
    sent = [asking(runs).body(make_planned(name))["priority"] for name in ("urgent", "standard", "flex")]

    assert sent == [urgent, standard, flex]
    assert [type(each) for each in sent] == [int, int, int]
    assert str(sent[1]) == "0"
    assert runs.sent(2.5) in (2.5, -2.5)


def test_a_service_that_knows_no_priority_is_sent_none() -> None:
    assert "priority" not in asking(PriorityRuns.UNSENT).body(make_planned("urgent"))


def test_a_tenant_shows_its_key_and_nobody_elses() -> None:
    assert asking().headers("research") == {"authorization": "Bearer secret"}
    assert asking().headers("product") == {}
    assert "secret" not in repr(asking())
