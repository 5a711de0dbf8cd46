"""The line to the queue: batches, deliveries, a queue that dies. Against a real `QueueState`, in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from ray.exceptions import ActorDiedError, RaySystemError

from deployments.deployment_actors import ActorIdentity
from deployments.errors import QueueLost
from deployments.queueing.client import MAX_FIND_AGAIN_S, QueueClient
from deployments.queueing.messages import (
    Cancel,
    Claim,
    Configure,
    Delivery,
    Enqueue,
    Granted,
    QueueMessage,
    Register,
    Release,
    Sent,
)
from deployments.queueing.state import OWNER_SILENCE_S, QueueState
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import QueueFull
from scheduling.replicas import ReplicaState
from scheduling.score import ScorePolicy
from tests.factories import make_ticket

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
        self.messages: list[QueueMessage] = []
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
        self.messages += messages
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
    def released(self) -> list[str]:
        return [message.lease_id for message in self.messages if isinstance(message, Release)]


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def line_to(
    find: Callable[[], InMemoryQueue | None],
    greeting: Callable[[], list[QueueMessage]] = list,
    sleep: Callable[[float], Awaitable[None]] = no_pause,
) -> AsyncIterator[QueueClient]:
    async def found() -> InMemoryQueue | None:
        return find()

    client = QueueClient("router", found, greeting, sleep)
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_lease_is_granted_through_the_line() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        grant = await client.lease(make_ticket(lease_id="a"))

    assert grant.replica_id == "r1"


async def test_a_lease_asked_for_before_there_is_a_queue_is_asked_for_when_there_is() -> None:
    queues: list[InMemoryQueue] = []
    async with line_to(lambda: queues[0] if queues else None) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await asyncio.sleep(0)
        queues.append(InMemoryQueue())

        assert (await lease).lease_id == "a"


async def test_a_refusal_is_raised_to_the_one_who_asked() -> None:
    queue = InMemoryQueue(max_waiting=1, with_replica=False)
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        first = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queue.enqueued.wait()

        with pytest.raises(QueueFull):
            await client.lease(make_ticket(lease_id="b"))
        assert not first.done()
        first.cancel()


async def test_cancelling_the_wait_takes_the_ticket_out_of_the_queue() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queue.enqueued.wait()

        lease.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await lease
        await queue.until(lambda: queue.state.dispatcher.num_waiting == 0)


async def test_a_grant_for_a_wait_that_was_cancelled_is_given_back() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queue.enqueued.wait()
        queue.state.submit("replica", [Register(REPLICA)], 0, 1.0)  # grants it
        lease.cancel()

        await queue.until(lambda: queue.state.dispatcher.num_running == 0)


async def test_when_the_queue_dies_those_who_wait_are_enqueued_at_the_next_one() -> None:
    queues = [InMemoryQueue(with_replica=False), InMemoryQueue()]
    async with line_to(lambda: queues[0]) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queues[0].enqueued.wait()

        queues.pop(0).kill()

        assert (await lease).lease_id == "a"


async def test_those_who_move_to_the_next_queue_keep_their_place() -> None:
    queues = [InMemoryQueue(with_replica=False), InMemoryQueue(with_replica=False, now_s=50.0)]
    async with line_to(lambda: queues[0]) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queues[0].enqueued.wait()
        stamp = queues[0].state.dispatcher.waiting_stamp("a")
        assert stamp is not None
        await queues[0].until(lambda: queues[0].num_seen > 0)

        queues.pop(0).kill()
        await queues[0].enqueued.wait()

        assert queues[0].state.dispatcher.waiting_stamp("a") == stamp
        lease.cancel()


async def test_when_the_queue_retires_those_who_wait_move_to_the_new_one() -> None:
    queues = [InMemoryQueue(with_replica=False), InMemoryQueue()]
    async with line_to(lambda: queues[0]) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queues[0].enqueued.wait()

        queues.pop(0).state.retire()

        assert (await lease).lease_id == "a"


async def test_a_release_that_the_dead_queue_never_heard_reaches_the_next_one() -> None:
    queues = [InMemoryQueue(), InMemoryQueue()]
    async with line_to(lambda: queues[0]) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))
        dead = queues.pop(0)
        dead.kill()

        client.tell(Release("a"))
        await queues[0].until(lambda: "a" in queues[0].released)


async def test_a_line_that_its_queue_forgot_introduces_itself_again_and_its_waits_keep_their_place() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queue.enqueued.wait()
        stamp = queue.state.dispatcher.waiting_stamp("a")
        await queue.until(lambda: queue.num_seen > 0)

        queue.forget_everyone()
        queue.enqueued.clear()
        client.tell(Release("other"))
        await queue.enqueued.wait()
        assert queue.state.dispatcher.waiting_stamp("a") == stamp

        queue.state.submit("replica", [Register(REPLICA)], 0, 1.0)
        assert (await lease).stamp == stamp


async def test_what_was_said_to_a_queue_that_had_forgotten_the_line_is_said_again() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))
        queue.forget_everyone()
        queue.messages.clear()

        client.tell(Release("a"))

        await queue.until(lambda: queue.released.count("a") == 2)


async def test_a_replica_that_the_queue_forgot_registers_again_with_what_it_holds() -> None:
    queue = InMemoryQueue(with_replica=False)
    greeting: list[QueueMessage] = [Register(REPLICA, holding=("runs",))]
    async with line_to(lambda: queue, lambda: greeting) as client, asyncio.timeout(WITHIN_S):
        await queue.until(lambda: queue.state.dispatcher.num_running == 1)
        queue.state.dispatcher.remove_replica("r1")
        queue.forget_everyone()
        num_registered = queue.messages.count(greeting[0])

        client.tell(Release("other"))

        await queue.until(lambda: queue.messages.count(greeting[0]) > num_registered)


async def test_the_queue_is_told_at_once_that_a_grant_was_taken() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))

        await queue.until(lambda: Sent("a", "r1") in queue.messages)


async def test_a_second_grant_of_a_lease_that_runs_is_not_given_back() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        grant = await client.lease(make_ticket(lease_id="a"))
        await queue.until(lambda: Sent("a", "r1") in queue.messages)

        queue.state._post("router", Granted(grant))
        seen = queue.num_seen
        await queue.until(lambda: queue.num_seen > seen)
        client.tell(Release("marker"))
        await queue.until(lambda: "marker" in queue.released)

        assert queue.released == ["marker"]


async def test_a_lease_cancelled_between_grant_and_claim_is_ended_at_once() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queue.enqueued.wait()
        queue.state.submit("replica", [Register(REPLICA)], 0, 1.0)
        client._hear(queue.state.submit("router", [], 0, 1.0))
        lease.cancel()

        await queue.until(lambda: Cancel("a") in queue.messages)
        assert (queue.state.dispatcher.num_running, queue.state.dispatcher.num_waiting) == (0, 0)


async def test_a_look_up_that_fails_is_repeated_and_its_pauses_are_bounded() -> None:
    queue = InMemoryQueue()
    finds: list[Exception] = [RaySystemError("the control plane is away"), OSError(), ValueError("no such actor")] * 4
    pauses: list[float] = []

    def find() -> InMemoryQueue:
        if finds:
            raise finds.pop()
        return queue

    async def pause(pause_s: float) -> None:
        pauses.append(pause_s)
        await asyncio.sleep(0)

    async with line_to(find, sleep=pause) as client, asyncio.timeout(WITHIN_S):
        assert (await client.lease(make_ticket(lease_id="a"))).lease_id == "a"

    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] == MAX_FIND_AGAIN_S


async def test_a_call_that_fails_is_logged_once_and_said_again(caplog: pytest.LogCaptureFixture) -> None:
    queue = InMemoryQueue()
    queue.failures = [RaySystemError("no reply"), OSError(), RuntimeError("no loop")]
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        assert (await client.lease(make_ticket(lease_id="a"))).lease_id == "a"

    assert [record.message for record in caplog.records if record.name == "ray.serve"] == [
        "The line to the priority queue broke; looking for it again."
    ]


async def test_those_who_wait_fail_when_the_line_ends() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queue.enqueued.wait()

    with pytest.raises(QueueLost):
        await asyncio.wait_for(lease, WITHIN_S)


async def test_of_what_is_said_again_and_again_only_the_newest_is_kept_while_there_is_no_queue() -> None:
    async with line_to(lambda: None) as client:
        await asyncio.sleep(0)
        for number in range(100):
            client._say(Register(REPLICA, holding=(f"held-{number}",)))
            client._say(Claim(f"held-{number}", "r1"))
            client._say(Configure(ScorePolicy(alpha=1 + number), AdmissionBounds()))

        claims = [Claim(f"held-{number}", "r1") for number in range(100)]
        assert [message for message in client._outbox if isinstance(message, Claim)] == claims
        assert [message for message in client._outbox if not isinstance(message, Claim)] == [
            Register(REPLICA, holding=("held-99",)),
            Configure(ScorePolicy(alpha=100), AdmissionBounds()),
        ]


async def test_a_heartbeat_that_the_queue_did_not_take_gives_way_to_the_one_after_it() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: None) as client:
        client._queue = queue
        queue.failures = [RaySystemError("no reply")]
        client._say(Register(REPLICA, holding=("new",)))

        with contextlib.suppress(RaySystemError):
            await client._submit([Register(REPLICA, holding=("old",)), Claim("old", "r1")])

        assert client._outbox == [Claim("old", "r1"), Register(REPLICA, holding=("new",))]
