"""Owns the id that a client and the log know one request by. Knows nothing of the request itself."""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
_VALID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SCOPE_KEY = "fastserve.request_id"


class RequestIdMiddleware:
    """Gives every request an id, the client's own where it is a plain one, and says it in every response.

    says_it: false behind Ray Serve, whose own middleware adds the header to every response, whatever we do.
    """

    def __init__(self, app: ASGIApp, *, says_it: bool = True) -> None:
        self._app = app
        self._says_it = says_it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[_SCOPE_KEY] = _chosen(Headers(scope=scope).get(HEADER))

        async def send_with_id(message: Message) -> None:
            if self._says_it and message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


def request_id_of(scope: Scope) -> str:
    """The id that the middleware gave."""
    found: str = scope[_SCOPE_KEY]
    return found


def _chosen(given: str | None) -> str:
    if given is not None and _VALID.fullmatch(given):
        return given
    return f"req-{secrets.token_hex(12)}"
