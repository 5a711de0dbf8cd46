"""Serve's handle to a deployment, whose calls all end with the same exception. Knows nothing of any one test."""

from __future__ import annotations

from collections.abc import AsyncIterator


class FailingResponse:
    """Serve's stream of a call: `events`, then `error`."""

    def __init__(self, error: Exception, events: tuple[object, ...]) -> None:
        self._error = error
        self._events = iter(events)

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        for event in self._events:
            return event
        raise self._error

    def cancel(self) -> None:
        """Nothing runs."""


class FailingHandle:
    """Serve's handle, whose calls all give `events` and end with `error`."""

    def __init__(self, error: Exception, *events: object) -> None:
        self._error = error
        self._events = events

    def options(self, **_: object) -> FailingHandle:
        return self

    def remote(self, _: object) -> FailingResponse:
        return FailingResponse(self._error, self._events)
