"""What one request may ask for where more would slow or starve the others: refused with the number and the limit."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator, MutableMapping
from functools import partial
from typing import Any

import httpx
import orjson

from deployments.user_config import parse_user_config
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import Service, chat_body, serving


def _refusal(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


async def test_more_biases_than_a_step_can_bear_are_refused_with_their_number_and_the_limit() -> None:
    async with serving() as service:
        refused = _refusal(await service.chat(logit_bias={str(token): 1 for token in range(1025)}))
        at_the_limit = _refusal(await service.chat(logit_bias={str(token): 1 for token in range(1024)}))

    assert refused["param"] == "logit_bias"
    assert refused["message"] == "logit_bias: got 1025 entries; expected at most 1024."
    assert "token id 1023" in at_the_limit["message"]  # the fake vocabulary is smaller than the limit


async def test_a_token_that_the_tokenizer_has_and_the_model_lacks_is_refused() -> None:
    async with serving(FakeHandle(num_embeddings=100)) as service:
        in_ids = _refusal(await service.complete(prompt=[100]))
        in_text = _refusal(await service.complete(prompt="zzz"))
        in_bias = _refusal(await service.complete(prompt=[65], logit_bias={"100": 1}))
        answered = await service.complete(prompt=[65])

    assert (in_ids["param"], in_text["param"], in_bias["param"]) == ("prompt", "prompt", "logit_bias")
    assert "token id 100; expected less than 100" in in_ids["message"]
    assert answered.status_code == 200
    assert service.handle.calls[0].request.sampling.stop_token_ids == ()  # its end token is one that the model lacks


async def test_more_log_probabilities_of_echoed_prompts_than_fit_in_memory_are_refused() -> None:
    async with serving(FakeHandle(max_model_len=10_000)) as service:
        prompts = ["x" * 2_048] * 64
        refused = _refusal(await service.complete(prompt=prompts, echo=True, logprobs=2, max_tokens=0))
        both = _refusal(await service.complete(prompt=prompts, n=2, echo=True, logprobs=1, max_tokens=0))
        unechoed = await service.complete(prompt=prompts[:1], logprobs=20, max_tokens=1)
        allowed = await service.complete(prompt="x" * 9_000, echo=True, logprobs=20, max_tokens=0)

    assert refused["param"] == "logprobs"
    assert "got 393216 to echo" in refused["message"]
    assert "at most 262144" in refused["message"]
    assert "got 524288 to echo" in both["message"]
    assert (unechoed.status_code, allowed.status_code) == (200, 200)


async def test_more_log_probabilities_of_one_answer_than_fit_in_memory_are_refused_unless_it_is_streamed() -> None:
    many = {"n": 100, "max_tokens": 2_000}
    async with serving(FakeHandle(max_model_len=4_000)) as service:
        chat = _refusal(await service.chat(**many, logprobs=True, top_logprobs=20))
        completion = _refusal(await service.complete(prompt=["a", "b"], n=50, max_tokens=3_000, logprobs=20))
        by_default = _refusal(await service.chat(n=100, logprobs=True, top_logprobs=20))
        streamed = await service.chat(**many, logprobs=True, top_logprobs=20, stream=True)
        fewer = await service.chat(**many, logprobs=True, top_logprobs=19)
        none = await service.chat(n=100)

    assert (chat["param"], completion["param"], by_default["param"]) == ("top_logprobs", "logprobs", "top_logprobs")
    assert "got 4200000 in one answer (2000 of max_tokens times n, 100, times top_logprobs" in chat["message"]
    assert "at most 4194304 unless stream is true" in chat["message"]
    assert "got 6300000 in one answer (6000 of max_tokens times n, 50, times logprobs" in completion["message"]
    assert [answer.status_code for answer in (streamed, fewer, none)] == [200] * 3


async def test_more_messages_parts_or_characters_of_a_stop_than_may_be_are_refused_by_name() -> None:
    message = {"role": "user", "content": "Hi"}
    async with serving() as service:
        messages = _refusal(await service.chat(messages=[message] * 4097))
        parts = _refusal(await service.chat(messages=[{**message, "content": [{"type": "text", "text": ""}] * 1025}]))
        stop = _refusal(await service.chat(stop=["x" * 1025]))
        allowed = await service.chat(stop=["x" * 1024])

    assert (messages["param"], parts["param"], stop["param"]) == ("messages", "messages[0].content", "stop")
    assert "at most 4096" in messages["message"]
    assert "at most 1024" in stop["message"]
    assert allowed.status_code == 200


async def test_a_body_that_does_not_come_is_a_408_and_holds_nothing() -> None:
    async def never_ending() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    settings = parse_user_config({"bounds": {"max_body_s": 0.05}})
    async with serving(settings=settings) as service:
        response = await service.client.post(
            "/v1/chat/completions", content=never_ending(), headers={"content-type": "application/json"}
        )
    assert (response.status_code, response.json()["error"]["code"]) == (408, "request_timeout")
    assert "within 0.05 s" in response.json()["error"]["message"]


async def test_large_bodies_that_come_slowly_leave_no_room_for_more_of_them_and_keep_no_ordinary_request_out() -> None:
    kib, is_held, come = 1024, asyncio.Event(), asyncio.Event()
    settings = parse_user_config({"bounds": {"max_unread_body_bytes": 100 * kib, "max_body_s": 20}})

    async def slow() -> AsyncIterator[bytes]:
        yield b" " * (150 * kib)
        is_held.set()
        await come.wait()
        yield orjson.dumps(chat_body())

    async with serving(settings=settings) as service:
        post = partial(service.client.post, "/v1/chat/completions", headers={"content-type": "application/json"})
        first = asyncio.create_task(post(content=slow()))
        await asyncio.wait_for(is_held.wait(), 20)  # the only one has room, though it takes more than there is
        refused = await post(content=b" " * (100 * kib) + orjson.dumps(chat_body()))
        ordinary = await service.chat()
        come.set()
        answered = await first
        after = await post(content=b" " * (100 * kib) + orjson.dumps(chat_body()))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert refused.headers["retry-after"] == "1"
    assert [one.status_code for one in (ordinary, answered, after)] == [200, 200, 200]


async def test_a_client_that_does_not_read_is_cut_off_and_its_place_is_free() -> None:
    settings = parse_user_config({"bounds": {"max_stalled_s": 0.05}})
    body, sent = orjson.dumps({**chat_body(), "stream": True}), []
    to_come = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(to_come, None) or await asyncio.Event().wait()  # type: ignore[func-returns-value]

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])
        if len(sent) > 1:
            await asyncio.Event().wait()  # the buffer is full

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}
    async with serving(settings=settings) as service:
        await asyncio.wait_for(service.api(scope, receive, send), 30)
    assert sent == ["http.response.start", "http.response.body"]
    assert service.handle.closed == [service.handle.calls[0].ticket.lease_id]
    assert [(line["status"], line["error_code"]) for line in service.log_lines] == [(499, "client_stalled")]


async def test_a_body_that_has_been_read_is_not_kept_while_its_request_waits() -> None:
    mib, num_requests = 2**20, 8
    handle = FakeHandle(start_gate=asyncio.Event())
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}
    statuses: list[int] = []

    def parts(num_letters: int, num_spaces: int) -> Iterator[bytes]:
        yield orjson.dumps(chat_body(user="x" * num_letters))
        yield b" " * num_spaces
        yield b""

    async def ask(service: Service, *sizes: int) -> None:
        to_come = parts(*sizes)

        async def receive() -> dict[str, Any]:
            if (part := next(to_come, None)) is not None:
                return {"type": "http.request", "body": part, "more_body": bool(part)}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: MutableMapping[str, Any]) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        await service.api(dict(scope), receive, send)

    async with serving(handle) as service, asyncio.TaskGroup() as asking:
        tracemalloc.start()
        try:
            for _ in range(num_requests // 2):
                asking.create_task(ask(service, 0, mib))
                asking.create_task(ask(service, mib, 0))
            while len(handle.calls) < num_requests:
                handle.called.clear()
                await asyncio.wait_for(handle.called.wait(), 30)
            gc.collect()
            kept, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            assert handle.start_gate is not None
            handle.start_gate.set()
    assert statuses == [200] * num_requests
    assert most > num_requests * mib
    assert kept < 3 * mib  # the last one that a thread has read is still in its hand
