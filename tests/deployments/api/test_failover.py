"""A replica that fails in the middle of an answer: another goes on, and the client does not notice."""

from __future__ import annotations

import pytest

from deployments.errors import ReplicaFailed
from deployments.user_config import FailoverConfig, parse_user_config
from engine.protocol import FinishReason
from scheduling.score import Stamp
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import events_of, serving

DIED = ReplicaFailed("replica-1", "it died", engine_ended=True)


@pytest.mark.parametrize("num_before", [0, 1, 3])
@pytest.mark.parametrize(
    "failing", [{"failure": DIED}, {"ends_with": FinishReason.LOST}, {"ends_with": FinishReason.CANCELLED}, {}]
)
async def test_the_text_usage_and_logprobs_are_those_of_an_undisturbed_answer(
    num_before: int, failing: dict[str, object]
) -> None:
    disturbed = FakeHandle(fails_after=num_before, num_failing_calls=1, **failing)  # type: ignore[arg-type]
    answers = []
    for handle in (disturbed, FakeHandle()):
        async with serving(handle) as service:
            answers.append((await service.chat(max_tokens=5, logprobs=True)).json())
    moved, undisturbed = ({key: answer[key] for key in ("choices", "usage")} for answer in answers)
    assert moved == undisturbed
    assert len(disturbed.calls) == 2


async def test_a_stream_goes_on_with_its_next_token() -> None:
    handle = FakeHandle(fails_after=2, failure=DIED, num_failing_calls=1)
    async with serving(handle) as service:
        response = await service.chat(stream=True, stop=["o!"])
    *events, done = events_of(response)
    assert (response.status_code, done) == (200, "[DONE]")
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "Hell"
    first, second = handle.calls
    assert second.request.output_token_ids == list(b"He")
    assert (first.request.is_suspect, second.request.is_suspect) == (False, True)
    assert second.request.sampling == first.request.sampling
    assert second.ticket.stamp == Stamp(0, 1000.0)


async def test_one_that_was_granted_and_never_heard_of_keeps_its_place() -> None:
    granted = ReplicaFailed("replica-1", "it died", Stamp(4, 77.0))
    handle = FakeHandle(error=granted)
    async with serving(handle) as service:
        response = await service.chat(priority=4, deadline_ms=60_000)
    assert response.status_code == 503
    num_calls = 1 + FailoverConfig().max_failovers
    assert len(handle.calls) == num_calls
    again = handle.calls[1].ticket
    assert (again.stamp, again.deadline_s) == (Stamp(4, 77.0), handle.calls[0].ticket.deadline_s)
    assert len({call.ticket.lease_id for call in handle.calls}) == num_calls


@pytest.mark.parametrize("num_before", [0, 2])
async def test_a_request_that_replicas_die_of_ends_after_two(num_before: int) -> None:
    handle = FakeHandle(fails_after=num_before, failure=DIED)
    async with serving(handle) as service:
        response = await service.chat()
    assert (response.status_code, len(handle.calls)) == (500, 2)
    assert response.json()["error"]["code"] == "poison_request"


async def test_every_choice_fails_over_by_itself() -> None:
    handle = FakeHandle(fails_after=1, failure=DIED, num_failing_calls=2)
    async with serving(handle) as service:
        answer = (await service.chat(n=2)).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["Hello!", "Hello!"]
    assert len(handle.calls) == 4


async def test_how_often_answers_go_on_elsewhere_is_set_live_and_told() -> None:
    async with serving(FakeHandle(fails_after=1, failure=DIED, num_failing_calls=1)) as service:
        went_on = await service.chat()
        service.settings = parse_user_config({"failover": {"max_failovers": 0}})
        service.handle.num_failing_calls = len(service.handle.calls) + 1
        ended = await service.chat()
        metrics = (await service.client.get("/metrics")).text
    assert (went_on.status_code, ended.status_code) == (200, 503)
    assert [line["failovers"] for line in service.log_lines] == [1, 0]
    assert 'fastserve:failovers_total{class="standard",model_name="fake"} 1.0' in metrics
