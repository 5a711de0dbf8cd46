"""Owns whether requests are let in, and who is inside. Knows nothing of what they ask, or of why the service ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from deployments.errors import ServiceEnding


class Gate:
    """Open at first. Once closed it lets nobody in; those inside go on until they have ended, or are sent away."""

    def __init__(self) -> None:
        self.is_closed = False
        self._inside: set[asyncio.Timeout] = set()
        self._left = asyncio.Event()

    @contextlib.asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """One request is inside meanwhile.

        Raises:
            ServiceEnding: the gate is closed, or the request was sent away.
        """
        if self.is_closed:
            raise ServiceEnding
        limit = asyncio.timeout(None)
        self._inside.add(limit)
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise ServiceEnding from None
            raise
        finally:
            self._inside.discard(limit)
            self._left.set()

    def close(self) -> None:
        self.is_closed = True

    async def empty(self, within_s: float) -> None:
        """Returns when nobody is inside: whoever still is after `within_s` seconds is sent away."""
        try:
            async with asyncio.timeout(within_s):
                await self._emptied()
        except TimeoutError:
            self._send_away()
            await self._emptied()

    async def _emptied(self) -> None:
        while self._inside:
            self._left.clear()
            await self._left.wait()

    def _send_away(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for limit in self._inside:
            limit.reschedule(now_s)
