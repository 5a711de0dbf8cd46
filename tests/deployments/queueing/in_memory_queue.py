"""A queue actor without Ray around a real `QueueState`, and a line to it. Knows nothing of any one test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from ray.exceptions import ActorDiedError

from deployments.deployment_actors import ActorIdentity
from deployments.queueing.client import QueueClient
from deployments.queueing.messages import Delivery, Enqueue, QueueMessage, Register, Release
from deployments.queueing.state import OWNER_SILENCE_S, QueueState
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.replicas import ReplicaState
from scheduling.score import ScorePolicy

WITHIN_S = 5.0
IDENTITY = ActorIdentity("actor", 0.0, retired=False)
REPLICA = ReplicaState("r1", max_num_seqs=1, kv_tokens=10_000, max_model_len=8_000, incarnation=1)


class InMemoryQueue:
    """A queue actor without Ray. `kill` makes every call fail, as calls to a dead actor do."""

    def __init__(self, *, max_waiting: int = 10, with_replica: bool = True, now_s: float = 1.0) -> None:
        self.steady_s = 0.0
        dispatcher = Dispatcher(ScorePolicy(), AdmissionBounds(max_waiting=max_waiting))
        self.state = QueueState(dispatcher, IDENTITY, lambda: self.steady_s)
        self.failures: list[Exception] = []
        self.batches: list[list[QueueMessage]] = []
        self.num_seen = 0
        self._now_s = now_s
        self.enqueued = asyncio.Event()
        self._heard = asyncio.Condition()
        self._dead = asyncio.Event()
        if with_replica:
            self.state.submit("replica", [Register(REPLICA)], 0, 1.0)

    def forget_everyone(self) -> None:
        """Time passes in which nobody is heard."""
        for _ in range(20):
            self.steady_s += OWNER_SILENCE_S / 10
            self.state.tick(self._now_s)

    def kill(self) -> None:
        self._dead.set()

    async def submit(self, owner: str, messages: list[QueueMessage], num_seen: int) -> Delivery:
        if self._dead.is_set():
            raise ActorDiedError
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(messages)
        delivery = self.state.submit(owner, messages, num_seen, self._now_s)
        if any(isinstance(message, Enqueue) for message in messages):
            self.enqueued.set()
        await self._hear(num_seen)
        return delivery

    async def _hear(self, num_seen: int) -> None:
        self.num_seen = max(self.num_seen, num_seen)
        async with self._heard:
            self._heard.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for a call after which `holds`."""
        async with self._heard:
            await self._heard.wait_for(holds)

    async def poll(self, owner: str, num_seen: int) -> Delivery:
        await self._hear(num_seen)
        poll = asyncio.create_task(self.state.poll(owner, num_seen))
        dead = asyncio.create_task(self._dead.wait())
        await asyncio.wait([poll, dead], return_when=asyncio.FIRST_COMPLETED)
        dead.cancel()
        if self._dead.is_set():
            poll.cancel()
            raise ActorDiedError
        return await poll

    @property
    def messages(self) -> list[QueueMessage]:
        return [message for batch in self.batches for message in batch]

    @property
    def released(self) -> list[str]:
        return [message.lease_id for message in self.messages if isinstance(message, Release)]


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def line_to(
    find: Callable[[], InMemoryQueue | None],
    greeting: Callable[[], list[QueueMessage]] = list,
    sleep: Callable[[float], Awaitable[None]] = no_pause,
    mention_within_s: float = 0.0,
    on_sent: Callable[[str, str | None], None] = lambda lease_id, replica_id: None,
) -> AsyncIterator[QueueClient]:
    async def found() -> InMemoryQueue | None:
        return find()

    client = QueueClient("router", found, greeting, sleep, mention_within_s, on_sent=on_sent)
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
