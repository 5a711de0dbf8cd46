"""A queue that is replaced under load: who waits comes over in order, what runs is neither lost nor granted again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import pytest

from deployments.queueing.client import QueueClient
from deployments.queueing.messages import Register, Release
from scheduling.replicas import ReplicaState
from tests.deployments.queueing.in_memory_queue import InMemoryQueue, no_pause
from tests.factories import make_ticket

NUM_WAITERS = 300
NUM_SERVED_BEFORE = 60
NUM_SLOTS = 4
REPLICA = ReplicaState("r1", max_num_seqs=NUM_SLOTS, kv_tokens=100_000, max_model_len=8_000, incarnation=1)
WITHIN_S = 30.0


class Service:
    """Two routers whose waiters run on one replica, and the queue in charge of them."""

    def __init__(self) -> None:
        self.queue = self._queue()
        self.routers = [QueueClient(f"router-{number}", self._find, sleep=no_pause) for number in (1, 2)]
        self.running: set[str] = set()
        self.started: list[str] = []
        self.most_running = 0
        self.served_enough = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def ask(self, number: int, priority: float) -> None:
        """One waiter: a lease, a moment on the replica, and a release."""
        router = self.routers[number % 2]
        lease_id = f"{number}"
        await router.lease(make_ticket(lease_id, priority=priority))
        self.started.append(lease_id)
        self.running.add(lease_id)
        self.most_running = max(self.most_running, len(self.running))
        if len(self.started) >= NUM_SERVED_BEFORE:
            self.served_enough.set()
            await self.may_go_on.wait()
        await asyncio.sleep(0)
        self.running.discard(lease_id)
        router.tell(Release(lease_id))

    def replace(self, end: Callable[[InMemoryQueue], None]) -> None:
        """The old queue goes, and the new one hears from the replica what it runs before any router comes."""
        old, self.queue = self.queue, self._queue(tuple(sorted(self.running)))
        end(old)

    def _queue(self, holding: tuple[str, ...] = ()) -> InMemoryQueue:
        queue = InMemoryQueue(max_waiting=2 * NUM_WAITERS, with_replica=False)
        queue.state.submit("replica", [Register(REPLICA, holding)], 0, 1.0)
        return queue

    async def _find(self) -> InMemoryQueue:
        return self.queue


def retire(queue: InMemoryQueue) -> None:
    queue.state.retire()


@pytest.mark.parametrize("end", [retire, InMemoryQueue.kill])
async def test_a_queue_is_replaced_under_load_and_nothing_is_lost_or_doubled_and_the_order_is_restored(
    end: Callable[[InMemoryQueue], None],
) -> None:
    service = Service()
    lines = [asyncio.create_task(router.run()) for router in service.routers]
    priorities = {number: float(random.Random(number).randint(-50, 50)) for number in range(NUM_WAITERS)}
    async with asyncio.timeout(WITHIN_S):
        waiters = [asyncio.create_task(service.ask(number, priority)) for number, priority in priorities.items()]
        await service.served_enough.wait()
        for _ in range(20):
            await asyncio.sleep(0)  # the slots fill up, and all who wait have been told their stamps

        service.replace(end)
        service.may_go_on.set()
        await asyncio.gather(*waiters)

    assert sorted(service.started, key=int) == [str(number) for number in range(NUM_WAITERS)]
    assert service.most_running <= NUM_SLOTS
    last_half = [priorities[int(lease_id)] for lease_id in service.started[NUM_WAITERS // 2 :]]
    for place, priority in enumerate(last_half):
        later = last_half[place + 2 * NUM_SLOTS :]  # grants of one moment reach two routers in any order
        assert max(later, default=priority) <= priority, "both routers had come over long before"
    state = service.queue.state
    assert (state.dispatcher.num_waiting, state.dispatcher.overtaking.num_violations) == (0, 0)
    for line in lines:
        line.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*lines, return_exceptions=True)
