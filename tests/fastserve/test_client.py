from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastserve.chat_stream import ChatTurn
from fastserve.client import Client
from fastserve.errors import (
    AnswerFailed,
    RequestRefused,
    ServerNotRunning,
    ServerUnreachable,
    TaskCancelled,
    TooManyTasks,
)
from fastserve.ports import free_port
from tests.fastserve.stub_service import WAIT_S, Script, stub_service


@contextmanager
def client_of(script: Script, max_tasks: int = 8) -> Iterator[Client]:
    with stub_service(script) as url, Client(url, max_tasks=max_tasks) as client:
        yield client


def test_a_result_is_the_whole_text() -> None:
    with client_of(Script()) as client:
        assert client.submit("Capital?", model="m").result(WAIT_S) == "The capital is Paris."


def test_a_stream_gives_each_piece_before_the_answer_is_complete() -> None:
    script = Script(hold_after=1)
    with client_of(script) as client:
        task = client.submit("Capital?", model="m")
        pieces = task.stream()

        assert next(pieces) == "The capital "
        assert not task.done()
        script.go_on.set()
        assert list(pieces) == ["is Paris."]
        assert list(task.stream()) == []
        assert task.result(WAIT_S) == "The capital is Paris."


def test_priority_and_options_travel_and_what_is_not_given_does_not() -> None:
    script = Script()
    with client_of(script) as client:
        turns = [ChatTurn("system", "Be brief."), ChatTurn("user", "Hi")]
        client.submit(turns, model="m", priority=10, max_tokens=5, stop=["."], deadline_ms=900).result(WAIT_S)

    assert script.asked == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "priority": 10,
            "stream": True,
            "max_completion_tokens": 5,
            "stop": ["."],
            "deadline_ms": 900,
        }
    ]


def test_a_refusal_says_why_and_when_to_come_back() -> None:
    error = {"error": {"message": "1024 requests wait", "type": "rate_limit_error", "code": "queue_full"}}
    script = Script(status=429, headers={"retry-after": "7"}, body=json.dumps(error).encode())
    with client_of(script) as client, pytest.raises(RequestRefused, match="1024 requests wait") as caught:
        client.submit("Hi", model="m").result(WAIT_S)

    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (429, "queue_full", 7.0)


@pytest.mark.parametrize("retry_after", ["Sun, 22 Nov 2026 18:00:00 GMT", "soon", "-1", "nan"])
def test_a_refusal_until_a_date_is_a_refusal_of_unknown_length(retry_after: str) -> None:
    script = Script(status=503, headers={"retry-after": retry_after}, body=b"<html>busy</html>")
    with client_of(script) as client, pytest.raises(RequestRefused, match="503") as caught:
        client.submit("Hi", model="m").result(WAIT_S)

    assert caught.value.retry_after_s is None


def test_a_refusal_in_a_proxys_own_words_is_a_refusal_all_the_same() -> None:
    script = Script(status=503, body=b"<html>busy</html>")
    with client_of(script) as client, pytest.raises(RequestRefused, match="503: Service Unavailable"):
        client.submit("Hi", model="m").result(WAIT_S)


def test_an_error_in_the_stream_fails_the_task_and_keeps_what_had_arrived() -> None:
    with client_of(Script(pieces=["half"], error_event="replica died")) as client:
        task = client.submit("Hi", model="m")
        with pytest.raises(AnswerFailed, match="replica died") as caught:
            list(task.stream())

    assert caught.value.text == "half"


def test_a_stream_that_breaks_off_is_not_taken_for_an_answer() -> None:
    script = Script(pieces=["half"], complete=False)
    with client_of(script) as client, pytest.raises(AnswerFailed, match="ended before the answer did"):
        client.submit("Hi", model="m").result(WAIT_S)


def test_cancelling_closes_the_connection() -> None:
    script = Script(hold_after=1)
    with client_of(script) as client:
        task = client.submit("Hi", model="m")
        next(task.stream())
        task.cancel()

        assert script.got_disconnect.wait(WAIT_S)
        with pytest.raises(TaskCancelled):
            task.result(WAIT_S)


def test_waiting_can_time_out_and_the_task_goes_on() -> None:
    script = Script(hold_after=0)
    with client_of(script) as client:
        task = client.submit("Hi", model="m")
        with pytest.raises(TimeoutError):
            task.result(timeout=0.01)
        script.go_on.set()

        assert task.result(WAIT_S) == "The capital is Paris."


def test_a_task_too_many_is_refused_at_once_and_a_finished_one_makes_room() -> None:
    script = Script(hold_after=0)
    with client_of(script, max_tasks=1) as client:
        first = client.submit("Hi", model="m")
        with pytest.raises(TooManyTasks):
            client.submit("Hi", model="m")
        script.go_on.set()
        first.result(WAIT_S)

        assert client.submit("Hi", model="m").result(WAIT_S) == "The capital is Paris."


def test_nobody_at_the_address_is_said_so() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(ServerUnreachable):
        client.submit("Hi", model="m").result(WAIT_S)


def test_closing_cancels_what_is_unfinished_and_ends_the_streams() -> None:
    with stub_service(Script(hold_after=1)) as url:
        client = Client(url)
        task = client.submit("Hi", model="m")
        pieces = task.stream()
        next(pieces)
        client.close()

        with pytest.raises(TaskCancelled):
            list(pieces)
        with pytest.raises(ServerNotRunning):
            client.submit("Hi", model="m")
