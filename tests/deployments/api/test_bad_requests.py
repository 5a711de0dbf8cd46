"""What a client sends wrong is a 4xx in OpenAI's shape that names the field. Never a 422, never a 500."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from deployments.user_config import parse_user_config
from tests.deployments.fake_model import MAX_MODEL_LEN, FakeHandle
from tests.deployments.fake_service import Service, chat_body, serving

CHAT = "/v1/chat/completions"
NAN = float("nan")


def _error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return error


async def _send(service: Service, raw: bytes, content_type: str = "application/json") -> httpx.Response:
    return await service.client.post(CHAT, content=raw, headers={"content-type": content_type})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.01),
        ("temperature", "1"),
        ("temperature", True),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", 1.5),
        ("min_p", -1),
        ("n", 0),
        ("n", 1000),
        ("n", True),
        ("n", 1.0),
        ("max_tokens", 0),
        ("max_tokens", 10**30),
        ("max_completion_tokens", -1),
        ("seed", 2**63),
        ("stop", [""]),
        ("stop", 7),
        ("stop", ["x"] * 17),
        ("logit_bias", {"a": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"999": 1}),
        ("logit_bias", {"9" * 5_000: 1}),
        ("stream", "true"),
        ("stream_options", {"include_usage": True}),
        ("top_logprobs", 2),
        ("top_logprobs", 21),
        ("presence_penalty", 2.5),
        ("repetition_penalty", 0),
        ("repetition_penalty", 1e-300),
        ("repetition_penalty", 10.1),
        ("min_tokens", MAX_MODEL_LEN),
        ("priority", 100.5),
        ("priority", "high"),
        ("service_tier", "gold"),
        ("deadline_ms", 0),
        ("messages", []),
        ("messages", "Hi"),
        ("messages", [{"role": "assistant", "content": "I speak first"}]),
        ("user", 7),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "yaml"}),
        ("response_format", "json_object"),
        ("response_format", {"type": "json_schema"}),
        ("response_format", {"type": "text", "json_schema": {"name": "a", "schema": {}}}),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("reasoning_effort", "high"),
        ("no_such_field", 1),
    ],
)
async def test_a_field_that_is_wrong_is_named(field: str, value: object) -> None:
    async with serving() as service:
        error = _error(await service.chat(**{field: value}), 400)
        assert error["param"].startswith(field)
        assert field in error["message"]
        assert (await service.chat()).status_code == 200


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "wizard", "content": "Hi"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": 7}, "messages[0].content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": "Hi", "mood": "good"}, "messages[0].mood"),
        ("Hi", "messages[0]"),
    ],
)
async def test_a_message_that_is_wrong_is_named_with_its_place(message: object, param: str) -> None:
    async with serving() as service:
        response = await service.chat(messages=[message])
    assert _error(response, 400)["param"] == param


@pytest.mark.parametrize(
    "prompt", ["", [], [[]], [1, "a"], [True], [-1], [1.5], {"a": 1}, 7, [None], [257], [[1], "a", [2**70]]]
)
async def test_a_prompt_that_is_none_is_named(prompt: object) -> None:
    async with serving() as service:
        assert _error(await service.complete(prompt=prompt), 400)["param"] == "prompt"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True}, "logprobs"),
        ({"prompt": ["a"] * 100, "n": 2}, "prompt"),
        ({"messages": []}, "messages"),
    ],
)
async def test_completions_name_what_they_do_not_take(fields: dict[str, object], param: str) -> None:
    async with serving() as service:
        assert _error(await service.complete(**fields), 400)["param"] == param


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": NaN}',
        b'{"model": "fake", "temperature": 1e999}',
        b'{"model": "fake", "temperature": Infinity}',
        b'{"a": "\\ud800"}',
        b'{"model": "fake", "model": "fake"}',
        b'{"model": "fake", "messages": [{"role": "user", "content": "Hi", "role": "user"}]}',
        b'{"model": "fake", "mod\\u0065l": "other"}',
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_json_object_is_a_400(raw: bytes) -> None:
    async with serving() as service:
        assert _error(await _send(service, raw), 400)["code"] == "invalid_json"


def _nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("field", ["messages", "user", "metadata"])
async def test_a_body_that_nests_too_deep_is_a_400(field: str) -> None:
    raw = b'{"model": "fake", "%s": ' % field.encode() + b"[" * 1_000 + b"]" * 1_000 + b"}"
    async with serving() as service:
        error = _error(await _send(service, raw), 400)
    assert error["code"] == "invalid_json"
    assert "more than 32 deep" in error["message"]


async def test_a_body_that_nests_as_deep_as_it_may_is_read() -> None:
    async with serving() as service:
        assert (await service.chat(metadata=_nested(31))).status_code == 200
        assert _error(await service.chat(metadata=_nested(32)), 400)["code"] == "invalid_json"
        assert _error(await service.chat(user=_nested(31)), 400)["param"] == "user"


async def test_a_temperature_close_to_zero_is_taken() -> None:
    async with serving() as service:
        assert (await service.chat(temperature=1e-300)).status_code == 200


async def test_a_missing_field_is_named() -> None:
    async with serving() as service:
        no_model = _error(await service.post(CHAT, {"messages": [{"role": "user", "content": "Hi"}]}), 400)
        no_messages = _error(await service.post(CHAT, {"model": "fake"}), 400)
    assert no_model["param"] == "model"
    assert no_messages["param"] == "messages"


async def test_another_content_type_is_a_415_and_a_charset_is_not() -> None:
    async with serving() as service:
        assert _error(await _send(service, b"model=fake", "application/x-www-form-urlencoded"), 415)
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


async def test_an_unknown_model_is_a_404_on_every_route() -> None:
    async with serving() as service:
        for response in (
            await service.chat(model="gpt-9"),
            await service.complete(model="gpt-9"),
            await service.post("/generate", {"prompt": "Hi", "model": "gpt-9"}),
            await service.client.get("/v1/models/gpt-9"),
        ):
            error = _error(response, 404)
            assert error["code"] == "model_not_found"
            assert error["param"] == "model"


async def test_an_unknown_path_and_a_wrong_method_have_the_same_shape() -> None:
    async with serving() as service:
        _error(await service.client.get("/v1/nothing"), 404)
        wrong = await service.client.get(CHAT)
    _error(wrong, 405)
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
