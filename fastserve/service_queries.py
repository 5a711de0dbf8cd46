"""Owns asking a running service about itself: its models, its queue. Knows nothing of terminals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import httpx
import msgspec

from fastserve.errors import RequestRefused, ServerUnreachable

_TIMEOUT_S = 10.0
_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model that a request may name."""

    id: str


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """One waiting request; `position` 0 runs next. Never the prompt."""

    position: int
    request_id: str
    tenant: str
    service_class: str
    priority: float
    key: float
    waited_s: float
    num_prompt_tokens: int
    why: str


@dataclass(frozen=True, slots=True)
class ModelQueue:
    """One model's queue, in the order in which it will run."""

    model: str
    num_running: int
    waiting: list[WaitingRow]


@dataclass(frozen=True, slots=True)
class _Models:
    data: list[ModelCard]


@dataclass(frozen=True, slots=True)
class _Queues:
    data: list[ModelQueue]


@dataclass(frozen=True, slots=True)
class ServiceQueries:
    """Questions to one service.

    Every method raises ServerUnreachable when nobody answers there, and RequestRefused when the answer is an error.
    """

    base_url: str
    api_key: str | None = None

    def models(self) -> list[ModelCard]:
        return self._get("/v1/models", _Models).data

    def queues(self) -> list[ModelQueue]:
        return self._get("/v1/queue", _Queues).data

    def _get(self, path: str, kind: type[_Document]) -> _Document:
        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        try:
            response = httpx.get(f"{self.base_url}{path}", headers=headers, timeout=_TIMEOUT_S)
        except httpx.TransportError as error:
            raise ServerUnreachable(f"{self.base_url}: {error}") from error
        if response.status_code != httpx.codes.OK:
            raise RequestRefused(response.status_code, response.text[:200], code=None, retry_after_s=None)
        return msgspec.json.decode(response.content, type=kind)
