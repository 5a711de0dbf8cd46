"""Owns writing one HTTP response: a JSON body, or server-sent events. Knows nothing of what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson
from starlette.types import Message, Send

from deployments.api.answer_writer import as_event
from deployments.errors import ApiError, ClientDisconnected, ClientStalled

DONE = b"data: [DONE]\n\n"
JSON_TYPE = "application/json"
EVENT_STREAM_TYPE = "text/event-stream; charset=utf-8"


class HttpSender:
    """`has_started` tells whether the status is out: from then on an error can only be an event.

    max_stalled_s: how long a client may leave a full buffer as it is.

    Raises:
        ClientDisconnected: from every method, when the connection is gone.
        ClientStalled: from every method, when the client does not read.
    """

    def __init__(self, send: Send, max_stalled_s: float) -> None:
        self._send = send
        self._max_stalled_s = max_stalled_s
        self.has_started = False

    async def json(self, body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        await self.document(orjson.dumps(body), status, headers)

    async def document(self, raw: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """JSON that has been written already."""
        await self._start(status, JSON_TYPE, headers or {})
        await self._body(raw, more=False)

    async def open_events(self, headers: Mapping[str, str]) -> None:
        await self._start(200, EVENT_STREAM_TYPE, {**headers, "cache-control": "no-cache"})

    async def events(self, raw: bytes) -> None:
        """Server-sent events that have been written already, one or more, in one write."""
        await self._body(raw, more=True)

    async def close_events(self) -> None:
        await self._body(DONE, more=False)

    async def error(self, error: ApiError) -> None:
        """The error as a response of its own or, once the answer has begun, as the event that ends it."""
        if not self.has_started:
            await self.json(error.body(), error.status, error.headers())
            return
        await self.events(as_event(error.body()))
        await self._body(b"", more=False)

    async def _start(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.has_started = True
        pairs = {"content-type": content_type, **headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs.items()]
        await self._put({"type": "http.response.start", "status": status, "headers": raw})

    async def _body(self, body: bytes, *, more: bool) -> None:
        await self._put({"type": "http.response.body", "body": body, "more_body": more})

    async def _put(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._max_stalled_s):
                await self._send(message)
        except TimeoutError:
            raise ClientStalled from None
        except OSError:
            raise ClientDisconnected from None
