"""What clients send wrong, as data: the same requests to the routes in memory, and to the real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from deployments.user_config import BoundsConfig

CHAT, COMPLETIONS, GENERATE = "/v1/chat/completions", "/v1/completions", "/generate"
_TOO_LARGE = BoundsConfig().max_body_bytes + 1
_FAR = 10**9  # beyond every vocabulary and context


@dataclass(frozen=True, slots=True)
class BadRequest:
    """One request and its refusal. param: how the name of the field begins; None where no field is to blame."""

    path: str
    content: bytes
    status: int
    param: str | None
    code: str | None = None
    method: str = "POST"
    content_type: str = "application/json"

    def __str__(self) -> str:
        return f"{self.path} {self.content[:60]!r}"


def bad_requests(model: str) -> list[BadRequest]:
    """All of them, for a service that has `model`."""
    return [
        *_wrong_fields(model),
        *_wrong_messages(model),
        *_wrong_prompts(model),
        *_wrong_bodies(model),
        *_elsewhere(),
    ]


WRONG_FIELDS: list[tuple[str, object]] = [
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
    ("max_tokens", _FAR),
    ("max_completion_tokens", -1),
    ("seed", 2**63),
    ("stop", [""]),
    ("stop", 7),
    ("stop", ["x"] * 17),
    ("stop", ["x" * 1025]),
    ("logit_bias", {"a": 1}),
    ("logit_bias", {"1": 101}),
    ("logit_bias", {str(_FAR): 1}),
    ("logit_bias", {"9" * 5_000: 1}),
    ("logit_bias", {str(token): 1 for token in range(1025)}),
    ("stream", "true"),
    ("stream_options", {"include_usage": True}),
    ("top_logprobs", 2),
    ("top_logprobs", 21),
    ("presence_penalty", 2.5),
    ("repetition_penalty", 0),
    ("repetition_penalty", 1e-300),
    ("repetition_penalty", 10.1),
    ("min_tokens", _FAR),
    ("priority", 100.5),
    ("priority", "high"),
    ("service_tier", "gold"),
    ("deadline_ms", 0),
    ("messages", []),
    ("messages", "Hi"),
    ("messages", [{"role": "user", "content": "Hi"}] * 4097),
    ("user", 7),
    ("tools", [{"type": "function"}]),
    ("tool_choice", "required"),
    ("response_format", {"type": "yaml"}),
    ("response_format", "json_object"),
    ("response_format", {"type": "json_schema"}),
    ("response_format", {"type": "text", "json_schema": {"name": "a", "schema": {}}}),
    ("functions", [{"name": "f"}]),
    ("function_call", {"name": "f"}),
    ("reasoning_effort", "high"),
    ("store", 0),
    ("best_of", True),
    ("best_of", 1.0),
    ("chat_template", "{{ 7 * 7 }}"),
    ("prompt_embeds", "AAAA"),
    ("no_such_field", 1),
]
_WRONG_MESSAGES: list[tuple[object, str]] = [
    ({"role": "wizard", "content": "Hi"}, "messages[0].role"),
    ({"role": "user"}, "messages[0].content"),
    ({"role": "user", "content": 7}, "messages[0].content"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0].type"),
    (
        {"role": "user", "content": [{"type": "file", "file": {"url": "file:///etc/passwd"}}]},
        "messages[0].content[0].type",
    ),
    ({"role": "user", "content": [{"type": "text", "text": ""}] * 1025}, "messages[0].content"),
    ({"role": "user", "content": "Hi", "mood": "good"}, "messages[0].mood"),
    ("Hi", "messages[0]"),
]
_NO_PROMPTS: list[object] = [
    *("", [], [[]], [1, "a"], [True], [-1], [1.5], {"a": 1}, 7, [None], [_FAR]),
    *([[1], "a", [2**70]], ["a"] * 1_000),
]
_NO_JSON_OBJECTS = [
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
    b'{"model": "fake", %s}' % b", ".join(b'"%x": 0' % number for number in range(4096)),
    b'{"model": "fake", "metadata": {%s, "x": 0}}' % b", ".join(b'"%x": 0' % number for number in range(4096)),
    *(
        b'{"model": "fake", "%s": ' % field + b"[" * 1_000 + b"]" * 1_000 + b"}"
        for field in (b"messages", b"user", b"metadata")
    ),
]
_NOT_A_MODEL = ["gpt-9", "../../etc/passwd", "/etc/passwd", "x" * 10_000, "a\x00b", ""]


def _wrong_fields(model: str) -> Iterator[BadRequest]:
    for field, value in WRONG_FIELDS:
        yield _chat({**_asked(model), field: value}, field)
    yield _chat({"messages": _asked(model)["messages"]}, "model")
    yield _chat({"model": model}, "messages")
    for name in _NOT_A_MODEL:
        yield BadRequest(CHAT, _json(_asked(name)), 404, "model", "model_not_found")


def _wrong_messages(model: str) -> Iterator[BadRequest]:
    for message, param in _WRONG_MESSAGES:
        yield _chat({"model": model, "messages": [message]}, param)


def _wrong_prompts(model: str) -> Iterator[BadRequest]:
    for prompt in _NO_PROMPTS:
        yield BadRequest(COMPLETIONS, _json({"model": model, "prompt": prompt}), 400, "prompt")
    for field, value in (
        ("best_of", 2),
        ("suffix", "end"),
        ("parallel_tool_calls", 1),
        ("max_tokens", 0),
        ("logprobs", True),
        ("messages", []),
    ):
        yield BadRequest(COMPLETIONS, _json({"model": model, "prompt": "Hi", field: value}), 400, field)
    yield BadRequest(GENERATE, _json({"prompt": "Hi", "model": "gpt-9"}), 404, "model", "model_not_found")


def _wrong_bodies(model: str) -> Iterator[BadRequest]:
    for content in _NO_JSON_OBJECTS:
        yield BadRequest(CHAT, content, 400, None, "invalid_json")
    yield BadRequest(CHAT, b" " * _TOO_LARGE, 413, None, "request_too_large")
    yield BadRequest(CHAT, b"model=fake", 415, None, content_type="application/x-www-form-urlencoded")
    yield BadRequest(CHAT, _json(_asked(model)), 415, None, content_type="text/plain")


def _elsewhere() -> Iterator[BadRequest]:
    yield BadRequest("/v1/models/gpt-9", b"", 404, "model", "model_not_found", method="GET")
    yield BadRequest("/v1/nothing", b"", 404, None, method="GET")
    yield BadRequest("/v1/embeddings", b"{}", 404, None)
    yield BadRequest(CHAT, b"", 405, None, method="GET")
    yield BadRequest("/v1/queue", b"", 405, None, method="DELETE")


def _asked(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}]}


def _chat(body: dict[str, object], param: str) -> BadRequest:
    return BadRequest(CHAT, _json(body), 400, param)


def _json(body: object) -> bytes:
    return json.dumps(body).encode()
