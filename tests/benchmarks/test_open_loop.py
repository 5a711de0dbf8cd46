"""Requests at their own times, against a service in this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence

from benchmarks.answers import Answer
from benchmarks.asking import Asking, PlannedRequest, PriorityRuns
from benchmarks.attempt import Outcome, Refusal
from benchmarks.connection_pool import ConnectionPool
from benchmarks.load import Failure
from benchmarks.open_loop import PhaseRun, send_on_time
from tests.benchmarks.factories import make_answer, make_outcome, make_planned
from tests.benchmarks.stub_completions import Completions, stub_completions


async def send(
    completions: Completions,
    plan: Sequence[PlannedRequest],
    *,
    started_s: float | None = None,
    comes_back: bool = False,
    timeout_s: float = 10.0,
) -> list[Outcome]:
    asking = Asking("stub", PriorityRuns.HIGHER_FIRST, timeout_s, comes_back, {"research": "secret"})
    with stub_completions(completions) as url, contextlib.closing(ConnectionPool(url)) as pool:
        return await send_on_time(pool, asking, plan, time.perf_counter() if started_s is None else started_s)


async def test_the_sender_waits_for_no_answer() -> None:
    """The service answers none before all five are asked."""
    plan = [make_planned(at_s=number * 0.01) for number in range(5)]

    outcomes = await send(Completions(together=threading.Barrier(5)), plan)

    assert [type(each.result) for each in outcomes] == [Answer] * 5


async def test_ttft_counts_from_the_scheduled_time_however_late_the_sender_is() -> None:
    (outcome,) = await send(Completions(), [make_planned(at_s=1.0)], started_s=time.perf_counter() - 5.0)

    assert isinstance(outcome.result, Answer)
    assert outcome.result.started_s == outcome.due_s
    assert outcome.attempts[0].lateness_s >= 4.0
    assert outcome.result.ttft_s >= 4.0


async def test_no_request_goes_out_before_its_time_and_outcomes_come_in_the_order_of_the_plan() -> None:
    started_s = time.perf_counter()
    plan = [make_planned(at_s=number * 0.02, num_output_tokens=number + 1) for number in range(4)]

    outcomes = await send(Completions(), plan, started_s=started_s)

    assert [each.arrival for each in outcomes] == [each.arrival for each in plan]
    assert [each.due_s for each in outcomes] == [started_s + each.arrival.at_s for each in plan]
    assert all(each.attempts[0].lateness_s >= 0 for each in outcomes)


async def test_each_tenant_asks_with_its_own_key() -> None:
    completions = Completions()

    await send(completions, [make_planned(tenant="research"), make_planned(tenant="product", at_s=0.05)])

    assert sorted(completions.keys, key=str) == ["Bearer secret", None]


async def test_a_refused_client_stays_away_unless_it_is_told_to_come_back() -> None:
    completions = Completions(refused=range(1), retry_after="3")

    (outcome,) = await send(completions, [make_planned()])

    assert outcome.result == Refusal(429, 3.0)
    assert len(completions.asked) == 1


async def test_a_client_comes_back_exactly_after_retry_after_and_its_ttft_counts_from_its_first_time() -> None:
    (outcome,) = await send(Completions(refused=range(2), retry_after="0"), [make_planned()], comes_back=True)

    first, second, third = outcome.attempts
    assert (second.due_s, third.due_s) == (first.ended_s, second.ended_s)
    assert isinstance(outcome.result, Answer)
    assert outcome.result.started_s == outcome.due_s == first.due_s


async def test_nobody_comes_back_after_its_own_patience_or_without_being_told_when() -> None:
    late = await send(Completions(refused=range(1), retry_after="60"), [make_planned()], comes_back=True)
    untold = await send(Completions(refused=range(1)), [make_planned()], comes_back=True)

    assert [len(each.attempts) for each in (*late, *untold)] == [1, 1]
    assert untold[0].result == Refusal(429, None)


async def test_no_room_no_replica_and_a_passed_deadline_are_refusals_and_all_else_is_a_failure() -> None:
    for status in (408, 429, 503):
        (outcome,) = await send(Completions(refused=range(1), refused_with=status), [make_planned()])
        assert outcome.result == Refusal(status, None)

    (outcome,) = await send(Completions(refused=range(1), refused_with=500), [make_planned()])
    assert isinstance(outcome.result, Failure)
    assert "500" in outcome.result.reason


async def test_an_answer_that_is_too_short_is_a_failure() -> None:
    (outcome,) = await send(Completions(too_short_by=1), [make_planned(num_output_tokens=3)])

    assert isinstance(outcome.result, Failure)
    assert "expected 3 output tokens, got 2" in outcome.result.reason


async def test_a_request_without_an_end_is_given_up() -> None:
    (outcome,) = await send(Completions(hold=threading.Event()), [make_planned()], timeout_s=0.2)

    assert outcome.result == Failure("no whole answer within 0.2 s of its scheduled time")


async def test_nobody_there_is_a_failure_of_every_request() -> None:
    asking = Asking("stub", PriorityRuns.UNSENT, 10.0)
    with contextlib.closing(ConnectionPool("http://127.0.0.1:9")) as pool:
        outcomes = await send_on_time(pool, asking, [make_planned(), make_planned()], time.perf_counter())

    assert [type(each.result) for each in outcomes] == [Failure, Failure]


def test_only_tokens_that_came_while_the_schedule_lasted_count_for_its_rate() -> None:
    outcomes = (make_outcome(make_answer(1.0, 2.0, 11.0)), make_outcome(Refusal(429, 1.0)))

    assert PhaseRun(0.0, 10.0, outcomes).output_tokens == 2
