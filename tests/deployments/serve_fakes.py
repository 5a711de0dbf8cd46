"""Serve's handle to a deployment whose calls speak over the feed and then end. Knows nothing of any one test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, cast

from ray.serve.handle import DeploymentHandle

from deployments.feed.messages import CallStarted
from deployments.feed.receiver import TokenFeed
from deployments.feed.sender import Feed, Feeds
from deployments.generate_call import GenerateCall, Started
from deployments.serve_handle import OnLoss, ServeModelHandle
from engine.protocol import SequenceOutput
from scheduling.score import Stamp

LOOPBACK = "127.0.0.1"


class FakeResponse:
    """Serve's answer to one call: says `events` over the feed, then ends, with `error` if there is one.

    lingers: it ends when `may_end` is set, or when it is cancelled.
    """

    def __init__(
        self, call: GenerateCall, events: tuple[object, ...], error: Exception | None, *, lingers: bool
    ) -> None:
        self._call = call
        self._events = events
        self._error = error
        self._lingers = lingers
        self.may_end = asyncio.Event()
        self.is_cancelled = False

    def __await__(self) -> Generator[Any, None, None]:
        return self._run().__await__()

    async def _run(self) -> None:
        if self._events:
            assert self._call.feed is not None
            feed = await Feeds(lambda feed: None).reach(self._call.feed)
            for event in self._events:
                self._say(feed, event)
        if self._lingers:
            await self.may_end.wait()
        if self._error is not None:
            raise self._error

    def _say(self, feed: Feed, event: object) -> None:
        if isinstance(event, Started):
            feed.start(CallStarted(self._call.ticket.lease_id, event))
        elif isinstance(event, SequenceOutput):
            feed.put([event])
        else:
            feed.close()

    def cancel(self) -> None:
        self.is_cancelled = True
        self.may_end.set()


class FakeHandle:
    """Serve's handle; every call gets a `FakeResponse`. An event that is neither start nor output cuts the feed."""

    def __init__(self, *events: object, error: Exception | None = None, lingers: bool = False) -> None:
        self._make: Callable[[GenerateCall], FakeResponse] = lambda call: FakeResponse(
            call, events, error, lingers=lingers
        )
        self.responses: list[FakeResponse] = []

    def options(self, **_: object) -> FakeHandle:
        return self

    def remote(self, call: GenerateCall) -> FakeResponse:
        self.responses.append(self._make(call))
        return self.responses[-1]


@contextlib.asynccontextmanager
async def model_handle(
    name: str,
    handle: FakeHandle,
    stamp_of: Callable[[str], Stamp | None] = lambda lease_id: None,
    on_loss: OnLoss = lambda lease_id, replica_id: None,
) -> AsyncIterator[ServeModelHandle]:
    """The ingress's side of it, with a feed of its own."""
    feed = TokenFeed()
    try:
        served = cast("DeploymentHandle[Any]", handle)
        yield ServeModelHandle(name, None, served, feed, lambda: LOOPBACK, stamp_of, on_loss)
    finally:
        feed.close()
