"""The line to the queue: leases asked for, granted, refused, cancelled. Against a real `QueueState`, in memory."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from deployments.errors import QueueLost
from deployments.queueing.messages import Cancel, Enqueue, Granted, Register, Release, SendFailed, Sent
from scheduling.errors import DeadlinePassed, QueueFull
from tests.deployments.queueing.in_memory_queue import REPLICA, WITHIN_S, InMemoryQueue, line_to
from tests.factories import make_ticket


async def test_a_lease_is_granted_through_the_line() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        grant = await client.lease(make_ticket(lease_id="a"))

    assert grant.replica_id == "r1"


async def test_where_a_call_is_sent_is_told_and_that_the_replica_did_not_take_it() -> None:
    queue, sent = InMemoryQueue(), list[tuple[str, str | None]]()
    async with line_to(lambda: queue, on_sent=lambda *told: sent.append(told)) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))
        client.tell(SendFailed("a", "r1"))
        await queue.until(lambda: SendFailed("a", "r1") in queue.messages)

    assert sent == [("a", "r1"), ("a", None)]


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


async def test_clients_that_come_and_go_while_there_is_no_queue_leave_nothing_behind() -> None:
    async with line_to(lambda: None) as client, asyncio.timeout(WITHIN_S):
        for number in range(100):
            lease = asyncio.create_task(client.lease(make_ticket(lease_id=f"lease-{number}")))
            await asyncio.sleep(0)
            lease.cancel()
            await asyncio.wait([lease])

        assert len(client._outbox) == 0


async def test_a_wait_ends_at_its_deadline_although_there_is_no_queue_to_say_so() -> None:
    async with line_to(lambda: None) as client, asyncio.timeout(WITHIN_S):
        with pytest.raises(DeadlinePassed):
            await client.lease(make_ticket(lease_id="a", deadline_s=0.01))

        assert len(client._outbox) == 0


async def test_a_wait_that_ends_at_its_deadline_takes_the_ticket_out_of_a_queue_that_is_late() -> None:
    queue = InMemoryQueue(with_replica=False)  # its clock stands still
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        with pytest.raises(DeadlinePassed):
            await client.lease(make_ticket(lease_id="a", deadline_s=0.05))

        await queue.until(lambda: queue.state.dispatcher.num_waiting == 0)


async def test_a_grant_for_a_wait_that_was_cancelled_is_given_back() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queue.enqueued.wait()
        queue.state.submit("replica", [Register(REPLICA)], 0, 1.0)  # grants it
        lease.cancel()

        await queue.until(lambda: queue.state.dispatcher.num_running == 0)


async def test_the_queue_is_told_in_time_that_a_grant_was_taken() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))

        await queue.until(lambda: Sent("a", "r1") in queue.messages)


async def test_what_is_only_mentioned_goes_in_one_call_with_what_is_told_next() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue, mention_within_s=10 * WITHIN_S) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))
        client.mention(Release("a"))
        await asyncio.sleep(0)
        await client.lease(make_ticket(lease_id="b"))

    assert queue.batches[:2] == [
        [Enqueue(make_ticket("a"))],
        [Sent("a", "r1"), Release("a"), Enqueue(make_ticket("b"))],
    ]


async def test_what_is_only_mentioned_goes_by_itself_when_nothing_else_is_told() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))
        await queue.until(lambda: Sent("a", "r1") in queue.messages)
        client.mention(Release("a"))

        await queue.until(lambda: queue.released == ["a"])


async def test_a_mention_that_went_with_a_call_wakes_the_line_no_more() -> None:
    queue = InMemoryQueue()
    async with line_to(lambda: queue, mention_within_s=10 * WITHIN_S) as client, asyncio.timeout(WITHIN_S):
        await client.lease(make_ticket(lease_id="a"))
        due = client._due
        client.tell(Release("a"))
        await queue.until(lambda: queue.released == ["a"])

        assert due is not None
        assert due.cancelled()


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


async def test_those_who_wait_fail_when_the_line_ends() -> None:
    queue = InMemoryQueue(with_replica=False)
    async with line_to(lambda: queue) as client, asyncio.timeout(WITHIN_S):
        lease = asyncio.create_task(client.lease(make_ticket(lease_id="a")))
        await queue.enqueued.wait()

    with pytest.raises(QueueLost):
        await asyncio.wait_for(lease, WITHIN_S)
