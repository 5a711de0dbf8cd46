"""The clients, against a service in this process."""

from __future__ import annotations

import itertools
import threading

from benchmarks.load import LevelRun, distinct_prompts, run_level
from tests.benchmarks.factories import make_workload
from tests.benchmarks.stub_completions import NUM_PROMPT_TOKENS, Completions, stub_completions


async def run(completions: Completions, num_clients: int, **workload: object) -> LevelRun:
    with stub_completions(completions) as url:
        return await run_level(url, make_workload(**workload), num_clients, distinct_prompts(5, seed=1))


async def test_each_client_asks_in_turn_and_every_answer_is_counted() -> None:
    completions = Completions()

    level = await run(completions, 3, requests_per_client=2, num_output_tokens=4)

    assert (len(level.answers), level.failures) == (6, [])
    assert len(completions.asked) == 6
    for answer in level.answers:
        assert (answer.num_prompt_tokens, answer.num_output_tokens) == (NUM_PROMPT_TOKENS, 4)
        assert answer.started_s < answer.text_times_s[0] <= answer.text_times_s[-1]
    assert level.output_tokens_per_s == 24 / level.took_s


async def test_all_clients_are_there_at_once() -> None:
    level = await run(Completions(together=threading.Barrier(8)), 8, requests_per_client=2)

    assert (len(level.answers), level.failures) == (16, [])


async def test_a_request_is_streamed_greedy_and_of_a_fixed_length() -> None:
    completions = Completions()

    await run(completions, 1, requests_per_client=1, num_output_tokens=4)

    (body,) = completions.asked
    assert body.pop("prompt").count(" ") == 4
    assert body == {
        "model": "stub",
        "max_tokens": 4,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_refusal_is_one_failure_and_the_client_goes_on() -> None:
    level = await run(Completions(refused=range(1)), 1, requests_per_client=3)

    assert len(level.answers) == 2
    assert ["429" in failure.reason and "queue full" in failure.reason for failure in level.failures] == [True]


async def test_an_answer_that_is_too_short_is_a_failure() -> None:
    level = await run(Completions(too_short_by=1), 1, requests_per_client=1, num_output_tokens=4)

    assert level.answers == []
    assert "expected 4 output tokens, got 3" in level.failures[0].reason


async def test_a_request_without_an_end_is_given_up() -> None:
    hold = threading.Event()

    level = await run(Completions(hold=hold), 1, requests_per_client=1, request_timeout_s=0.2)

    assert [failure.reason for failure in level.failures] == ["no whole answer within 0.2 s"]


async def test_nobody_there_is_a_failure() -> None:
    workload = make_workload(requests_per_client=1)

    level = await run_level("http://127.0.0.1:9", workload, 1, distinct_prompts(5, seed=1))

    assert level.failures[0].reason.startswith("ConnectionRefusedError")
    assert level.output_tokens_per_s == 0


def test_prompts_differ_and_are_the_same_for_the_same_seed() -> None:
    first, again = (list(itertools.islice(distinct_prompts(20, seed=3), 50)) for _ in range(2))

    assert first == again
    assert len(set(first)) == 50
    assert {len(prompt.split()) for prompt in first} == {20}
