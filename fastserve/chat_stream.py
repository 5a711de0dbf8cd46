"""Owns one streamed chat completion over HTTP: body in, pieces of text out. Knows nothing of threads or processes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import httpx

from fastserve.errors import AnswerFailed, RequestRefused, ServerUnreachable

PATH = "/v1/chat/completions"
_DATA = "data: "
_DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class ChatTurn:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question, and how it is to be answered; None leaves a choice to the service.

    priority: from -100 to 100, higher runs sooner. deadline_ms: refuse what cannot start its answer by then.
    """

    model: str
    turns: Sequence[ChatTurn]
    priority: float = 0.0
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    deadline_ms: float | None = None

    def body(self) -> dict[str, object]:
        optional = {
            "max_completion_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": list(self.stop) or None,
            "deadline_ms": self.deadline_ms,
        }
        return {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in self.turns],
            "priority": self.priority,
            "stream": True,
            **{name: value for name, value in optional.items() if value is not None},
        }


async def stream_chat(http: httpx.AsyncClient, request: ChatRequest) -> AsyncIterator[str]:
    """The answer's text as it arrives.

    Raises:
        RequestRefused: the service answered with an error instead.
        AnswerFailed: the stream carried an error, or broke off before its end.
        ServerUnreachable: there was no connection.
    """
    received: list[str] = []
    try:
        async with http.stream("POST", PATH, json=request.body()) as response:
            if response.status_code != httpx.codes.OK:
                raise _refusal(response, await response.aread())
            async for line in response.aiter_lines():
                if line == _DATA + _DONE:
                    return
                if line.startswith(_DATA) and (piece := _piece(line.removeprefix(_DATA), received)):
                    received.append(piece)
                    yield piece
    except httpx.ConnectError as error:
        raise ServerUnreachable(f"{http.base_url}: {error}") from error
    except httpx.TransportError as error:
        raise AnswerFailed(f"the connection broke: {error!r}", "".join(received)) from error
    raise AnswerFailed("the stream ended before the answer did", "".join(received))


def _piece(data: str, received: Sequence[str]) -> str:
    event = json.loads(data)
    if "error" in event:
        raise AnswerFailed(event["error"]["message"], "".join(received))
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


def _refusal(response: httpx.Response, body: bytes) -> RequestRefused:
    error = _error_of(body)
    return RequestRefused(
        response.status_code,
        str(error.get("message") or response.reason_phrase),
        code=str(error["code"]) if error.get("code") else None,
        retry_after_s=_seconds(response.headers.get("retry-after", "")),
    )


def _seconds(retry_after: str) -> float | None:
    """None for a date, the header's other form: a proxy may send one, and our clocks need not agree with its."""
    return float(retry_after) if retry_after.isdecimal() and retry_after.isascii() else None


def _error_of(body: bytes) -> Mapping[str, object]:
    """OpenAI's error object; empty where something between us and the service answered in its own words."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}
