"""What a client sends wrong is a 4xx in OpenAI's shape that names the field. Never a 422, never a 500."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from deployments.api.openai_schemas import ChatCompletionRequest
from deployments.user_config import parse_user_config
from tests.bad_requests import BadRequest, bad_requests
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import Service, chat_body, serving

CHAT = "/v1/chat/completions"


def _error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return error


async def _send(service: Service, raw: bytes, content_type: str = "application/json") -> httpx.Response:
    return await service.client.post(CHAT, content=raw, headers={"content-type": content_type})


@pytest.mark.parametrize(("declared", "status"), [("²", 200), ("9" * 5000, 413), ("0" * 5000, 200), ("-1", 200)])
async def test_a_length_that_is_none_is_not_believed_and_one_that_nobody_could_send_is_too_large(
    declared: str, status: int
) -> None:
    async with serving() as service:
        request = service.client.build_request("POST", CHAT, json=chat_body())
        request.headers = httpx.Headers(
            [(b"content-type", b"application/json"), (b"content-length", declared.encode("latin-1"))]
        )
        response = await service.client.send(request)
    assert response.status_code == status, response.text


BAD_REQUESTS = bad_requests("fake")


@pytest.mark.parametrize("bad", BAD_REQUESTS, ids=map(str, BAD_REQUESTS))
async def test_what_is_wrong_is_refused_by_name_and_nothing_else_is(bad: BadRequest) -> None:
    async with serving() as service:
        response = await service.client.request(
            bad.method, bad.path, content=bad.content, headers={"content-type": bad.content_type}
        )
        error = _error(response, bad.status)
        assert (await service.chat()).status_code == 200

    assert (error["param"] is None) == (bad.param is None)
    if bad.param is not None:
        assert error["param"].startswith(bad.param)
        assert bad.param in error["message"] or bad.code == "model_not_found"
    assert bad.code in (None, error["code"])


async def test_a_conversation_that_the_template_refuses_is_named() -> None:
    async with serving() as service:
        error = _error(await service.chat(messages=[{"role": "assistant", "content": "I speak first"}]), 400)
    assert error["param"] == "messages"


async def test_more_prompts_times_choices_than_may_be_are_refused() -> None:
    async with serving() as service:
        assert _error(await service.complete(prompt=["a"] * 100, n=2), 400)["param"] == "prompt"


def _nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


async def test_a_body_that_nests_too_deep_is_told_the_bound() -> None:
    async with serving() as service:
        error = _error(await _send(service, b'{"model": "fake", "user": ' + b"[" * 1_000 + b"]" * 1_000 + b"}"), 400)
    assert "more than 32 deep" in error["message"]


async def test_a_body_that_nests_as_deep_as_it_may_is_read() -> None:
    async with serving() as service:
        assert (await service.chat(metadata=_nested(31))).status_code == 200
        assert _error(await service.chat(metadata=_nested(32)), 400)["code"] == "invalid_json"
        assert _error(await service.chat(user=_nested(31)), 400)["param"] == "user"


@pytest.mark.parametrize(
    "fields",
    [{"x" * 100_000: 1}, {"model": "x" * 100_000}, {"user": ["x" * 100_000]}, {"service_tier": "x" * 100_000}],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_refusal_is_short_however_long_what_it_refuses(fields: dict[str, Any]) -> None:
    async with serving() as service:
        response = await service.chat(**fields)
    assert response.status_code in (400, 404)
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    ("field", "many"),
    [
        ("messages", [{"a": 1, "b": 2}] * 4096),
        ("messages", [{"role": "user", "content": [{"a": 1}] * 1024}]),
        ("messages", [{"role": "assistant", "tool_calls": [{"a": 1}] * 128}]),
        ("tools", [{"a": 1}] * 128),
    ],
)
def test_of_a_list_the_first_wrong_member_is_enough(field: str, many: object) -> None:
    """Whoever collects them all keeps an error for every few bytes of a body, and the others waiting."""
    with pytest.raises(ValidationError) as refused:
        ChatCompletionRequest.model_validate({**chat_body(), field: many})
    assert refused.value.error_count() <= 4


async def test_a_temperature_close_to_zero_is_taken() -> None:
    async with serving() as service:
        assert (await service.chat(temperature=1e-300)).status_code == 200


async def test_a_content_type_may_name_its_charset() -> None:
    async with serving() as service:
        accepted = await service.client.post(
            CHAT, json=chat_body(), headers={"content-type": "application/json; charset=utf-8"}
        )
    assert accepted.status_code == 200


async def test_too_large_a_body_is_a_413_with_its_length_declared_or_not() -> None:
    settings = parse_user_config({"bounds": {"max_body_bytes": 1024}})

    async def pieces() -> Any:
        for _ in range(100):
            yield b" " * 100

    async with serving(settings=settings) as service:
        declared = await _send(service, b" " * 2000)
        undeclared = await service.client.post(CHAT, content=pieces(), headers={"content-type": "application/json"})
    assert _error(declared, 413)["code"] == "request_too_large"
    assert _error(undeclared, 413)["code"] == "request_too_large"


async def test_a_wrong_method_is_told_the_right_one() -> None:
    async with serving() as service:
        wrong = await service.client.get(CHAT)
    assert wrong.headers["allow"] == "POST"


async def test_a_prompt_may_fill_the_context_but_for_one_token_and_no_more() -> None:
    async with serving(FakeHandle(max_model_len=10)) as service:
        fits = await service.complete(prompt="x" * 9)
        one_more = await service.complete(prompt="x" * 10)
        chat = await service.chat(messages=[{"role": "user", "content": "x" * 10}])
    assert fits.json()["usage"]["completion_tokens"] == 1
    error = _error(one_more, 400)
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "prompt"
    assert "10 tokens" in error["message"]
    assert _error(chat, 400)["param"] == "messages"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_more_tokens_than_the_context_has_left_is_a_400_under_the_name_that_was_used(field: str) -> None:
    async with serving(FakeHandle(max_model_len=10)) as service:
        fits = await service.chat(**{field: 8})
        error = _error(await service.chat(**{field: 9}), 400)
    assert fits.status_code == 200
    assert (error["param"], error["code"]) == (field, "context_length_exceeded")


async def test_before_the_replicas_have_spoken_the_checkpoints_own_context_counts() -> None:
    async with serving(FakeHandle(max_model_len=None)) as service:
        response = await service.chat(max_tokens=4095)
    assert "at most 4094" in _error(response, 400)["message"]


async def test_our_own_fault_is_a_500_without_a_trace_and_the_log_has_it() -> None:
    async with serving(FakeHandle(error=KeyError("secret detail"))) as service:
        response = await service.chat()
        error = _error(response, 500)
    assert error["code"] == "internal_error"
    assert response.headers["x-request-id"] in error["message"]
    assert "secret" not in response.text
    crash = next(line for line in service.log_lines if line["level"] == "error")
    assert crash["request_id"] == response.headers["x-request-id"]
    assert "secret detail" in str(crash["exception"])
