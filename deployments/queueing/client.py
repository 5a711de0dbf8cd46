"""A process's line to one queue actor: batches what it says, hands out what it hears, finds the next when it dies.

Routers and replicas share it. Everything runs on the event loop that `run` was started on; `tell` may be called from
any thread. Knows nothing of Serve's router or of the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol

from ray.exceptions import RayActorError

from deployments.queueing.messages import (
    Cancel,
    Delivery,
    Enqueue,
    Granted,
    QueueAnswer,
    Queued,
    QueueMessage,
    Refused,
    Release,
    Retired,
    SendFailed,
)
from scheduling.request import Grant, Ticket

logger = logging.getLogger("ray.serve")

FIND_AGAIN_S = 0.2  # between two looks for a queue actor when there is none


class QueueActorHandle(Protocol):
    """The two calls that the client makes; `app.py`'s world puts the Ray actor behind them, tests a `QueueState`."""

    def submit(self, owner: str, messages: list[QueueMessage], num_seen: int) -> Awaitable[Delivery]: ...

    def poll(self, owner: str, num_seen: int) -> Awaitable[Delivery]: ...


class QueueClient:
    """Speaks for one owner. Batches are sent one at a time, so the queue sees messages in the order they were told.

    find: looks for the queue in charge; None while there is none.
    greeting: what a queue that has never heard of this owner must be told first (a replica's registration).
    """

    def __init__(
        self,
        owner: str,
        find: Callable[[], Awaitable[QueueActorHandle | None]],
        greeting: Callable[[], list[QueueMessage]] = list,
    ) -> None:
        self.owner = owner
        self._find = find
        self._greeting = greeting
        self._outbox: list[QueueMessage] = []
        self._wake = asyncio.Event()
        self._waiting: dict[str, tuple[Ticket, asyncio.Future[Grant]]] = {}
        self._num_seen = 0
        self._queue: QueueActorHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lost = asyncio.Event()

    async def lease(self, ticket: Ticket) -> Grant:
        """Wait for the grant of `ticket.lease_id`. Cancelling the wait takes the ticket back.

        Raises:
            scheduling.errors.SchedulingError: the queue refused the ticket, shed it, or its deadline passed.
        """
        granted: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._waiting[ticket.lease_id] = (ticket, granted)
        self._say(Enqueue(ticket))
        try:
            return await granted
        except asyncio.CancelledError:
            self._say(Cancel(ticket.lease_id))
            raise
        finally:
            del self._waiting[ticket.lease_id]

    def tell(self, message: QueueMessage) -> None:
        """Send without waiting, in order, from any thread. Dropped before `run` starts: nothing is there to undo."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._say, message)

    async def run(self) -> None:
        """Keep the line up until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._queue = await self._find()
            if self._queue is None:
                await asyncio.sleep(FIND_AGAIN_S)
                continue
            self._introduce()
            await self._speak_and_listen()

    def _say(self, message: QueueMessage) -> None:
        self._outbox.append(message)
        self._wake.set()

    def _introduce(self) -> None:
        """Tell a queue that is new to us all that it must know. What waits unsent is part of that or is void."""
        self._num_seen = 0
        ends = [m for m in self._outbox if isinstance(m, Release | Cancel | SendFailed)]
        asks: list[QueueMessage] = [Enqueue(ticket) for ticket, _ in self._waiting.values()]
        self._outbox = [*self._greeting(), *asks, *ends]
        self._wake.set()

    async def _speak_and_listen(self) -> None:
        """Until the queue dies or retires."""
        self._lost.clear()
        lost = asyncio.create_task(self._lost.wait())
        tasks = [asyncio.create_task(self._guard(work)) for work in (self._speak(), self._listen())]
        try:
            await asyncio.wait([lost, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (lost, *tasks):
                task.cancel()
            await asyncio.gather(lost, *tasks, return_exceptions=True)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RayActorError:
            logger.warning("The priority queue is gone; looking for the next one.")

    async def _speak(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._outbox = self._outbox, []
            if batch:
                self._hear(await self._submit(batch))

    async def _submit(self, batch: list[QueueMessage]) -> Delivery:
        """Send a batch; one that may not have arrived is kept, because saying it twice does no harm."""
        assert self._queue is not None
        try:
            return await self._queue.submit(self.owner, batch, self._num_seen)
        except BaseException:
            self._outbox = [*batch, *self._outbox]
            raise

    async def _listen(self) -> None:
        assert self._queue is not None
        while True:
            self._hear(await self._queue.poll(self.owner, self._num_seen))

    def _hear(self, delivery: Delivery) -> None:
        """Take each answer once, however often it is delivered."""
        unseen = delivery.answers[max(0, self._num_seen - delivery.first) :]
        self._num_seen = max(self._num_seen, delivery.first + len(delivery.answers))
        for answer in unseen:
            self._take(answer)

    def _take(self, answer: QueueAnswer) -> None:
        match answer:
            case Granted(grant):
                self._take_grant(grant)
            case Queued(lease_id, stamp):
                if (waiting := self._waiting.get(lease_id)) is not None:
                    self._waiting[lease_id] = (replace(waiting[0], stamp=stamp), waiting[1])
            case Refused(lease_id, error):
                waiting = self._waiting.get(lease_id)
                if waiting is not None and not waiting[1].done():
                    waiting[1].set_exception(error)
            case Retired():
                self._lost.set()

    def _take_grant(self, grant: Grant) -> None:
        waiting = self._waiting.get(grant.lease_id)
        if waiting is None or waiting[1].done():
            self._say(Release(grant.lease_id))  # granted while it was being cancelled
            return
        waiting[1].set_result(grant)
