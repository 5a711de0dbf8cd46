"""A queue that dies, retires, fails or forgets the line: what was said is said again, and waits keep their place."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from ray.exceptions import RaySystemError

from deployments.queueing.client import MAX_FIND_AGAIN_S, QueueClient
from deployments.queueing.messages import (
    Claim,
    Configure,
    Delivery,
    Move,
    Parked,
    QueueMessage,
    Register,
    Release,
    Resume,
    Sent,
)
from scheduling.admission import AdmissionBounds
from scheduling.score import ScorePolicy
from tests.deployments.queueing.in_memory_queue import REPLICA, WITHIN_S, InMemoryQueue, line_to, no_pause
from tests.factories import make_ticket


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


async def test_what_is_held_is_said_once_however_often_an_introduction_fails() -> None:
    queues = [InMemoryQueue(), InMemoryQueue()]
    async with line_to(lambda: queues[0]) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))
        queues[1].failures = [RaySystemError("not yet") for _ in range(5)]

        queues.pop(0).kill()
        await queues[0].until(lambda: bool(queues[0].batches))
        client.tell(Release("other"))
        await queues[0].until(lambda: "other" in queues[0].released)

        said = [message for message in queues[0].messages if isinstance(message, Sent) and message.ticket is not None]
        assert [message.lease_id for message in said] == ["a"]


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

        assert list(client._outbox) == [Claim("old", "r1"), Register(REPLICA, holding=("new",))]


async def test_the_next_queue_hears_which_leases_this_process_holds_and_of_whom() -> None:
    queues = [InMemoryQueue(), InMemoryQueue(with_replica=False)]
    async with line_to(lambda: queues[0]) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="ended"))
        client.tell(Release("ended"))
        held = await client.lease(make_ticket(lease_id="held", priority=3))

        queues.pop(0).kill()
        await queues[0].until(
            lambda: any(isinstance(message, Sent) and message.ticket for message in queues[0].messages)
        )

        told = [message for message in queues[0].messages if isinstance(message, Sent) and message.ticket is not None]
        assert [(one.lease_id, one.replica_id) for one in told] == [("held", REPLICA.replica_id)]
        assert told[0].ticket is not None
        assert told[0].ticket.stamp == held.stamp


async def test_a_queue_that_says_nothing_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.queueing.client.ANSWER_WITHIN_S", 0.05)
    contacts: list[bool] = []
    queues = [InMemoryQueue(with_replica=False), InMemoryQueue()]

    async def never(owner: str, num_seen: int) -> Delivery:
        queues.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("nobody ends this wait")

    queues[0].poll = never  # type: ignore[method-assign]

    async def find() -> InMemoryQueue:
        return queues[0]

    client = QueueClient("router", find, sleep=no_pause, on_contact=contacts.append)
    line = asyncio.create_task(client.run())
    async with asyncio.timeout(WITHIN_S):
        assert (await client.lease(make_ticket(lease_id="a"))).lease_id == "a"
    line.cancel()
    await asyncio.gather(line, return_exceptions=True)
    assert contacts[:3] == [True, False, True]


async def test_a_replica_is_told_what_becomes_of_those_who_gave_way() -> None:
    orders: asyncio.Queue[Resume | Move] = asyncio.Queue()
    queue = InMemoryQueue(with_replica=False)
    state = replace(REPLICA, parked_limit=1)

    async def find() -> InMemoryQueue:
        return queue

    client = QueueClient("r1's line", find, lambda: [Register(state)], no_pause, 0.0, orders.put_nowait)
    line = asyncio.create_task(client.run())
    async with asyncio.timeout(WITHIN_S), line_to(lambda: queue) as router:
        await router.lease(make_ticket(lease_id="bulk", priority=-10))
        client.tell(Claim("bulk", "r1"))
        await router.lease(make_ticket(lease_id="urgent", priority=10))
        client.tell(Claim("urgent", "r1"))
        client.tell(Parked("bulk", "r1"))
        client.tell(Release("urgent"))
        order = await orders.get()
    line.cancel()
    await asyncio.gather(line, return_exceptions=True)
    assert isinstance(order, Resume)
    assert order.lease_id == "bulk"
