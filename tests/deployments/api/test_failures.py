"""How an answer can end other than well: refusals keep their status, and nothing is ever cut short in silence."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from deployments.errors import ModelUnavailable, PoolFull, ReplicaFailed
from deployments.user_config import FailoverConfig
from engine.protocol import FinishReason
from scheduling.errors import DeadlinePassed, DeadlineUnmeetable, LeaseEnded, NeverFits, QueueFull, WaitTooLong
from scheduling.score import Stamp
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import Service, chat_body, events_of, serving

BOUND_S = 20.0
REFUSALS = [
    (QueueFull(1024, 1024, 2.2), 429, "queue_full", "3"),
    (DeadlineUnmeetable(1.0, 9.0, 8.0), 429, "deadline_unmeetable", "8"),
    (WaitTooLong(70.0, 60.0, 10.0), 429, "wait_too_long", "10"),
    (DeadlinePassed(1.0, 1.5), 408, "deadline_passed", None),
    (NeverFits(5000, 4096), 400, "context_length_exceeded", None),
    (LeaseEnded("a"), 503, "lease_ended", "1"),
    (ModelUnavailable("fake", "no replica can come", 7.0), 503, "model_unavailable", "7"),
    (ReplicaFailed("replica-1", "it died"), 503, "replica_failed", "1"),
    (PoolFull(64), 429, "queue_full", "1"),
]


@pytest.mark.parametrize(("error", "status", "code", "retry_after"), REFUSALS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_keeps_its_status_streaming_or_not(
    error: Exception, status: int, code: str, retry_after: str | None, stream: bool
) -> None:
    async with serving(FakeHandle(error=error)) as service:
        response = await service.chat(stream=stream)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert response.headers.get("retry-after") == retry_after


class _WrappedByRay(QueueFull):
    """What arrives where Ray carries an actor's exception: its text is a stack trace, its `cause` the original."""

    def __init__(self, cause: QueueFull) -> None:
        self.cause = cause

    def __str__(self) -> str:
        return "Traceback (most recent call last)"


async def test_an_error_that_came_through_ray_shows_its_cause() -> None:
    async with serving(FakeHandle(error=_WrappedByRay(QueueFull(5, 5, 2.0)))) as service:
        response = await service.chat()
    assert response.status_code == 429
    assert "5 requests wait" in response.json()["error"]["message"]


@pytest.mark.parametrize("ending", [None, FinishReason.CANCELLED])
async def test_an_end_without_a_terminal_message_is_a_503_before_the_first_token(ending: FinishReason | None) -> None:
    async with serving(FakeHandle(fails_after=0, ends_with=ending, enters=False)) as service:
        for stream in (False, True):
            response = await service.chat(stream=stream)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "replica_failed"


@pytest.mark.parametrize("failure", [None, ReplicaFailed("replica-1", "it died")])
async def test_an_end_in_the_middle_is_an_event_that_ends_the_stream(failure: Exception | None) -> None:
    async with serving(FakeHandle(fails_after=2, failure=failure, enters=False)) as service:
        response = await service.chat(stream=True)
        whole = await service.chat()
    *chunks, last = events_of(response)
    assert response.status_code == 200
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "He"
    assert last["error"]["code"] == "replica_failed"
    assert whole.status_code == 503


async def test_a_sequence_that_the_engine_gives_up_is_an_error_of_the_server() -> None:
    async with serving(FakeHandle(fails_after=1, ends_with=FinishReason.ERROR)) as service:
        response = await service.chat()
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "generation_failed"


async def test_one_failed_choice_closes_the_others() -> None:
    handle = FakeHandle(fails_after=1, failure=ReplicaFailed("replica-1", "it died"), enters=False)
    async with serving(handle) as service:
        response = await service.chat(n=3)
    assert response.status_code == 503
    assert len(handle.closed) == len(handle.calls)


class _Client:
    """Speaks ASGI by hand, so that it can leave whenever the test says so."""

    def __init__(self, service: Service, body: bytes) -> None:
        self._service = service
        self._body: list[bytes] = [body]
        self.has_left = asyncio.Event()
        self.sent: list[MutableMapping[str, Any]] = []

    async def run(self) -> None:
        headers = [(b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        await self._service.api(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if self.has_left.is_set():
            raise OSError("the connection is gone")
        self.sent.append(message)


def _client(service: Service, **fields: object) -> _Client:
    request = service.client.build_request("POST", "/", json=chat_body(**fields))
    return _Client(service, request.content)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
async def test_a_client_that_leaves_while_queued_frees_every_choice(stream: bool, n: int) -> None:
    handle = FakeHandle(start_gate=asyncio.Event())
    async with serving(handle) as service:
        client = _client(service, stream=stream, n=n)
        running = asyncio.create_task(client.run())
        await asyncio.wait_for(handle.called.wait(), BOUND_S)
        client.has_left.set()
        await asyncio.wait_for(running, BOUND_S)
    assert len(handle.closed) == len(handle.calls)
    assert client.sent == []
    assert service.log_lines[-1]["status"] == 499


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
async def test_a_client_that_leaves_in_the_middle_frees_every_choice(stream: bool, n: int) -> None:
    handle = FakeHandle(gate=asyncio.Event())
    async with serving(handle) as service:
        client = _client(service, stream=stream, n=n)
        running = asyncio.create_task(client.run())
        await asyncio.wait_for(handle.began.wait(), BOUND_S)
        client.has_left.set()
        await asyncio.wait_for(running, BOUND_S)
    assert len(handle.closed) == len(handle.calls)
    assert service.log_lines[-1]["error_code"] == "client_disconnected"


async def test_a_server_that_cancels_the_request_frees_it_too() -> None:
    handle = FakeHandle(gate=asyncio.Event())
    async with serving(handle) as service:
        running = asyncio.create_task(_client(service, n=2).run())
        await asyncio.wait_for(handle.began.wait(), BOUND_S)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, BOUND_S)
    assert len(handle.closed) == 2
    assert service.log_lines[-1]["error_code"] == "cancelled"


async def test_a_slow_choice_does_not_hold_back_a_fast_one() -> None:
    gate = asyncio.Event()
    handle = FakeHandle(says=lambda call: "slow" if bytes(call.request.prompt_token_ids) == b"slow" else "")
    handle.gate = gate
    async with serving(handle) as service:
        sent = asyncio.create_task(service.complete(prompt=["slow", "fast"]))
        await asyncio.wait_for(handle.began.wait(), BOUND_S)
        await asyncio.wait_for(handle.one_closed.wait(), BOUND_S)  # the slow one waits for the gate
        gate.set()
        answer = (await asyncio.wait_for(sent, BOUND_S)).json()
    assert [choice["text"] for choice in answer["choices"]] == ["slow", ""]


@pytest.mark.parametrize("num_before", [0, 2])
async def test_an_answer_that_is_moved_goes_on_from_its_next_token_and_the_client_sees_one(num_before: int) -> None:
    handle = FakeHandle(fails_after=num_before, ends_with=FinishReason.MOVED, num_failing_calls=1)
    async with serving(handle) as service:
        response = await service.chat(stream=True, priority=3, max_tokens=4, logprobs=True)
    assert response.status_code == 200, response.text
    *events, done = events_of(response)
    assert done == "[DONE]"
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "Hell"
    assert [event["choices"][0]["finish_reason"] for event in events][-1] == "length"
    assert sum("role" in event["choices"][0]["delta"] for event in events) == 1
    first, second = handle.calls
    assert second.request.output_token_ids == list(b"Hell"[:num_before])
    assert second.ticket.stamp == Stamp(3, 1000.0)
    assert (second.ticket.max_output_tokens, second.ticket.deadline_s) == (4 - num_before, None)
    assert second.ticket.num_prompt_tokens == first.ticket.num_prompt_tokens + num_before
    assert second.request.sampling.seed == first.request.sampling.seed
    assert len({first.ticket.lease_id, second.ticket.lease_id, second.request.lease_id}) == 2


async def test_an_answer_that_is_moved_for_ever_fails() -> None:
    handle = FakeHandle(fails_after=0, ends_with=FinishReason.MOVED)
    async with serving(handle) as service:
        response = await service.chat()
    assert (response.status_code, len(handle.calls)) == (503, 1 + FailoverConfig().max_moves)
