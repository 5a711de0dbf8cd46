"""Services are compared on speed and latency, and only when their answers are the model's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import Workload
from benchmarks.peers.online import ServedComparison, ServedSide, compare
from benchmarks.peers.reference import CHECKED_PROMPTS, CHECKED_TOKENS, Agreement, Choice, WrongAnswers
from benchmarks.peers.served_answers import VLLM_DIALECT
from benchmarks.service import RunningService
from fastserve.errors import ServerFailed
from tests.benchmarks.stub_completions import Completions, stub_completions

WORKLOAD = Workload("stub", num_prompt_words=4, num_output_tokens=3, requests_per_client=1, request_timeout_s=30.0)


def side(name: str, completions: Completions) -> ServedSide:
    @contextlib.contextmanager
    def start() -> Iterator[RunningService]:
        with stub_completions(completions) as base_url:
            yield RunningService(base_url, time.perf_counter(), Path("no log"))

    return ServedSide(name, start, VLLM_DIALECT)


def compared(ours: Completions, peers: Completions, gap: float = 0.0) -> ServedComparison:
    return compare(
        side("FastServe", ours),
        side("peer", peers),
        WORKLOAD,
        clients=[2, 1],
        num_pairs=2,
        judge=lambda token_ids: [Choice(gap, 0.0, 1.0)] * (len(token_ids) - 1),
    )


def test_every_measure_is_taken_of_both_sides_in_every_pair() -> None:
    found = compared(Completions(), Completions())

    assert [each.measure for each in found.comparisons] == ["output, 1 clients", "output, 2 clients"]
    assert all(len(each.ours) == len(each.peers) == 2 and min(each.ours + each.peers) > 0 for each in found.comparisons)


def test_both_sides_have_latencies_at_each_number_of_clients() -> None:
    found = compared(Completions(), Completions()).latencies

    assert list(found) == ["FastServe", "peer"]
    assert [level.num_clients for level in found["peer"]] == [1, 2]
    assert found["peer"][0].ttft_ms.p99 is not None


def test_the_answers_of_every_turn_are_held_to_the_reference() -> None:
    num_tokens = CHECKED_PROMPTS * CHECKED_TOKENS * 2

    assert compared(Completions(), Completions()).agreements["peer"] == Agreement(num_tokens, num_tokens)


def test_a_service_that_answers_wrongly_is_not_timed() -> None:
    ours = Completions()
    with pytest.raises(WrongAnswers, match=r"FastServe: a token is 0\.50 below"):
        compared(ours, Completions(), gap=0.5)

    assert len(ours.asked) == 1


def test_a_side_whose_requests_fail_is_not_compared() -> None:
    with pytest.raises(ServerFailed, match=r"peer: .* requests failed; the first: .*429"):
        compared(Completions(), Completions(refused=range(5, 6)))
