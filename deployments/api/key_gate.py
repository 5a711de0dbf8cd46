"""Owns that without a key one is told nothing but whether the service is well. Knows no route but those of health."""

from __future__ import annotations

from collections.abc import Callable, Set

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.api.auth import tenant_of
from deployments.errors import ApiError
from deployments.user_config import IngressUserConfig

OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class KeyGate:
    """Stands before all routes, those that there are not among them: a new one is closed unless it is named here.

    ask_themselves: (method, path) of routes that ask for the key themselves, because they keep a record of the refusal.
    """

    def __init__(
        self, app: ASGIApp, *, settings: Callable[[], IngressUserConfig], ask_themselves: Set[tuple[str, str]]
    ) -> None:
        self._app = app
        self._settings = settings
        self._ask_themselves = ask_themselves

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        body = orjson.dumps(refusal.body())
        await Response(body, refusal.status, refusal.headers(), media_type="application/json")(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        if scope["type"] == "lifespan":
            return None
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in OPEN_PATHS or (scope.get("method"), path) in self._ask_themselves:
            return None
        try:
            tenant_of(Headers(scope=scope).get("authorization"), self._settings())
        except ApiError as refusal:
            return refusal
        return None
