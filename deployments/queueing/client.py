"""A process's line to one queue actor: batches what it says, hands out what it hears, finds the next when it dies.

Routers and replicas share it. Everything runs on the event loop that `run` was started on; `tell` may be called from
any thread. Knows nothing of Serve's router or of the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from deployments.deployment_actors import CLUSTER_ERRORS
from deployments.errors import QueueLost
from deployments.queueing.messages import (
    Cancel,
    Delivery,
    Enqueue,
    Granted,
    Introduce,
    Move,
    QueueAnswer,
    Queued,
    QueueMessage,
    Refused,
    Release,
    Resume,
    Retired,
    SendFailed,
    Sent,
)
from deployments.queueing.outbox import Outbox
from deployments.queueing.waits import Waits
from scheduling.errors import DeadlinePassed
from scheduling.request import Grant, Ticket
from scheduling.score import Stamp

logger = logging.getLogger("ray.serve")

MENTION_WITHIN_S = 0.3  # of a queue's patience with a grant of which it hears nothing, a second
FIND_AGAIN_S = 0.2  # between two looks for a queue actor; doubles with every failure in a row
MAX_FIND_AGAIN_S = 2.0
ANSWER_WITHIN_S = 10.0  # a queue that says nothing for longer is looked for again; a poll is answered within 2


class QueueActorHandle(Protocol):
    """The two calls that the client makes; `app.py`'s world puts the Ray actor behind them, tests a `QueueState`."""

    def submit(self, owner: str, messages: list[QueueMessage], num_seen: int) -> Awaitable[Delivery]: ...

    def poll(self, owner: str, num_seen: int) -> Awaitable[Delivery]: ...


class QueueClient:
    """Speaks for one owner. Batches are sent one at a time, so the queue sees messages in the order they were told.

    find: looks for the queue in charge; None while there is none.
    greeting: what a queue that has never heard of this owner must be told first (a replica's registration).
    sleep: waits between two looks.
    mention_within_s: how long what `mention` is told may wait for company.
    on_order: told what a queue orders a replica to do.
    on_contact: told whether there is a queue that knows this owner, whenever that changes.
    on_sent: told the lease and the replica of each grant that is taken, and of each replica that did not take the call
    the lease and nothing.
    """

    def __init__(
        self,
        owner: str,
        find: Callable[[], Awaitable[QueueActorHandle | None]],
        greeting: Callable[[], list[QueueMessage]] = list,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        mention_within_s: float = MENTION_WITHIN_S,
        on_order: Callable[[Resume | Move], None] = lambda order: None,
        on_contact: Callable[[bool], None] = lambda in_contact: None,
        on_sent: Callable[[str, str | None], None] = lambda lease_id, replica_id: None,
    ) -> None:
        self.owner = owner
        self._find = find
        self._greeting = greeting
        self._sleep = sleep
        self._mention_within_s = mention_within_s
        self._on_order = on_order
        self._on_contact = on_contact
        self._on_sent = on_sent
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._due: asyncio.TimerHandle | None = None
        self._waits = Waits()
        self._num_seen = 0
        self._num_failures = 0  # in a row
        self._queue: QueueActorHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lost = asyncio.Event()
        self._why_hopeless: Callable[[], Exception] | None = None

    async def lease(self, ticket: Ticket) -> Grant:
        """Wait for the grant of `ticket.lease_id`. Cancelling the wait takes the ticket back.

        Raises:
            scheduling.errors.SchedulingError: the queue refused the ticket, shed it, or its deadline passed.
            deployments.errors.QueueLost: the line has ended.
            Exception: what `give_up` was told to raise.
        """
        if self._why_hopeless is not None:
            raise self._why_hopeless()
        granted = self._waits.begin(ticket)
        self._say(Enqueue(ticket))
        try:
            async with asyncio.timeout(ticket.deadline_s):  # the queue's own watch, also while there is no queue
                return await granted
        except TimeoutError:
            self._say(Cancel(ticket.lease_id))
            assert ticket.deadline_s is not None
            raise DeadlinePassed(ticket.deadline_s, ticket.deadline_s) from None
        except asyncio.CancelledError:
            self._say(Cancel(ticket.lease_id))
            raise
        finally:
            self._waits.end(ticket.lease_id)

    def stamp_of(self, lease_id: str) -> Stamp | None:
        """What a lease was granted under that was granted here lately; None if that is not known."""
        return self._waits.stamp_of(lease_id)

    def tell(self, message: QueueMessage) -> None:
        """Send without waiting, in order, from any thread. Dropped before `run` starts: nothing is there to undo."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._say, message)

    def mention(self, message: QueueMessage) -> None:
        """As `tell`, for what nobody waits for: it goes with what is told next, or by itself a little later."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._say_in_time, message)

    def give_up(self, why: Callable[[], Exception]) -> None:
        """No grant will come: who waits is taken back and told why, as is whoever asks before `hope_again`."""
        self._why_hopeless = why
        for lease_id in self._waits.refuse_all(why):
            self._say(Cancel(lease_id))

    def hope_again(self) -> None:
        """Grants may come from now on, as they may at first."""
        self._why_hopeless = None

    async def run(self) -> None:
        """Keep the line up until cancelled. However it ends, nobody is left waiting."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                await self._try_once()
                await self._sleep(min(MAX_FIND_AGAIN_S, FIND_AGAIN_S * 2 ** max(0, self._num_failures - 1)))
        finally:
            self._waits.refuse_all(lambda: QueueLost("the line to it has ended"))

    async def _try_once(self) -> None:
        """One queue, until it is lost. The first failure in a row is logged."""
        try:
            self._queue = await self._find()
            if self._queue is not None:
                await self._introduce()
                await self._speak_and_listen()
        except (*CLUSTER_ERRORS, TimeoutError) as error:
            self._num_failures = min(self._num_failures + 1, 16)
            if self._num_failures == 1:
                logger.warning("The line to the priority queue broke; looking for it again.", exc_info=error)

    def _say(self, message: QueueMessage) -> None:
        self._note(message)
        self._wake.set()

    def _note(self, message: QueueMessage) -> None:
        if isinstance(message, Cancel | Release | SendFailed):
            self._waits.released(message.lease_id)
        if isinstance(message, SendFailed):
            self._on_sent(message.lease_id, None)
        self._outbox.put(message)

    def _say_in_time(self, message: QueueMessage) -> None:
        """A call of the queue costs both ends more than all that it may carry."""
        self._note(message)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._mention_within_s, self._wake.set)

    async def _introduce(self) -> None:
        """Tell a queue that is new to us all that it must know. What waits unsent is part of that or is void."""
        self._lost.clear()
        self._num_seen = 0
        self._rest()
        news = self._outbox.take_lease_news()
        await self._submit([*self._greeting(), *self._waits.held(), *self._waits.asked(), *news], anew=news)

    async def _speak_and_listen(self) -> None:
        """Until the queue dies, falls silent or sends us away.

        Raises:
            CLUSTER_ERRORS, TimeoutError: a call to the queue failed, or was not answered.
        """
        self._on_contact(True)
        tasks = [asyncio.create_task(work) for work in (self._lost.wait(), self._speak(), self._listen())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._on_contact(False)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _speak(self) -> None:
        while True:
            await self._wake.wait()
            self._rest()
            if batch := self._outbox.take():
                await self._submit(batch)

    def _rest(self) -> None:
        """All that was said is about to be sent: nothing wakes `_speak` until there is more."""
        self._wake.clear()
        if self._due is not None:
            self._due.cancel()
            self._due = None

    async def _submit(self, batch: list[QueueMessage], anew: list[QueueMessage] | None = None) -> None:
        """Send a batch; one that may not have been taken is kept, because saying it twice does no harm.

        anew: what of it is kept then, where the rest is said anew in any case.
        """
        assert self._queue is not None
        taken = False
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                delivery = await self._queue.submit(self.owner, batch, self._num_seen)
            self._hear(delivery)
            taken = not delivery.sends_away
        finally:
            if not taken:
                self._outbox.put_back(batch if anew is None else anew)

    async def _listen(self) -> None:
        assert self._queue is not None
        while True:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                delivery = await self._queue.poll(self.owner, self._num_seen)
            self._hear(delivery)

    def _hear(self, delivery: Delivery) -> None:
        """Take each answer once, however often it is delivered."""
        self._num_failures = 0
        unseen = delivery.answers[max(0, self._num_seen - delivery.first) :]
        self._num_seen = max(self._num_seen, delivery.first + len(delivery.answers))
        for answer in unseen:
            self._take(answer)

    def _take(self, answer: QueueAnswer) -> None:
        match answer:
            case Granted(grant):
                self._take_grant(grant)
            case Queued(lease_id, stamp):
                self._waits.stamped(lease_id, stamp)
            case Refused(lease_id, error):
                self._waits.refuse(lease_id, error)
            case Resume() | Move():
                self._on_order(answer)
            case Retired() | Introduce():
                self._lost.set()

    def _take_grant(self, grant: Grant) -> None:
        if self._waits.has_taken(grant.lease_id):
            return
        if self._waits.take(grant):
            self._on_sent(grant.lease_id, grant.replica_id)
            self._say_in_time(Sent(grant.lease_id, grant.replica_id))
        else:
            self._say(Release(grant.lease_id))  # granted while it was being cancelled
