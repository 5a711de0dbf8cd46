"""Owns what the queue itself takes for a grant: all its messages, one after another. No wire, no Ray."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.queue_tickets import QueueLoad, registration, settings, tickets
from deployments.deployment_actors import ActorIdentity
from deployments.queueing.messages import Claim, Delivery, Enqueue, Granted, QueueMessage, Release, Sent
from deployments.queueing.state import QueueState
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.request import Grant, Ticket
from scheduling.score import ScorePolicy

_NEWS_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class InProcess:
    """took_s: of all messages of all grants. grant_s: of each call that freed a slot and decided who gets it."""

    took_s: float
    grant_s: list[float]


async def measure_in_process(load: QueueLoad) -> InProcess:
    """Fills the queue, then frees a slot and lets a ticket come in for each grant.

    Each grant costs what it costs in service: a parked poll of the ingress wakes, the ingress says that it sends the
    call and asks for another ticket, the replica claims the lease and releases it when it is done.
    """
    queue = _Queue(load)
    queue.fill()
    began_s = time.perf_counter()
    grant_s = [await queue.turn_over() for _ in range(load.num_grants)]
    took_s = time.perf_counter() - began_s
    await queue.end_polls()
    return InProcess(took_s, grant_s)


@dataclass(slots=True)
class _Queue:
    """A queue with its owners, of which each hears only what is for it, as on the wire."""

    load: QueueLoad
    state: QueueState = field(init=False)
    asking: Iterator[Ticket] = field(init=False)
    owners: list[str] = field(init=False)
    ingresses: Iterator[str] = field(init=False)
    num_seen: dict[str, int] = field(default_factory=dict)
    running: list[Grant] = field(default_factory=list)
    num_tokens: dict[str, int] = field(default_factory=dict)  # of each lease
    polls: dict[asyncio.Task[list[Grant]], str] = field(default_factory=dict)  # the parked one of each ingress
    next_out: int = 0

    def __post_init__(self) -> None:
        dispatcher = Dispatcher(ScorePolicy(), AdmissionBounds())
        self.state = QueueState(dispatcher, ActorIdentity("queue", time.time()))
        self.asking = tickets(self.load)
        self.owners = [f"ingress-{number}" for number in range(self.load.num_ingresses)]
        self.ingresses = itertools.cycle(self.owners)

    def fill(self) -> None:
        for number in range(self.load.num_replicas):
            self.submit(f"replica-{number}", [registration(self.load, f"replica-{number}")])
        for owner in self.owners:
            self.submit(owner, [settings(self.load)])
        for _ in range(self.load.num_waiting + self.load.num_replicas * self.load.num_slots):
            for grant in self.submit(next(self.ingresses), [self.ask()]):
                self.submit(grant.replica_id, [Claim(grant.lease_id, grant.replica_id)])
                self.running.append(grant)

    async def turn_over(self) -> float:
        """One request ends, the next is granted, and another comes in. Returns the seconds of the grant.

        Raises:
            TimeoutError: nobody was granted the slot.
        """
        ended = self.running.pop(self.next_out % len(self.running))
        self.next_out += 7  # those that end are not those that began first
        began_s = time.perf_counter()
        self.submit(ended.replica_id, [Release(ended.lease_id, self.num_tokens.pop(ended.lease_id))])
        took_s = time.perf_counter() - began_s
        async with asyncio.timeout(_NEWS_WITHIN_S):
            owner, [grant] = await self.next_news()
        self.running.append(grant)
        self.submit(owner, [Sent(grant.lease_id, grant.replica_id), self.ask()])
        self.submit(grant.replica_id, [Claim(grant.lease_id, grant.replica_id)])
        return took_s

    async def next_news(self) -> tuple[str, list[Grant]]:
        """Who is told something next, and what."""
        while True:
            for owner in set(self.owners) - set(self.polls.values()):
                self.polls[asyncio.create_task(self.poll(owner))] = owner
            done, _ = await asyncio.wait(self.polls, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if grants := task.result():
                    return self.polls.pop(task), grants
                del self.polls[task]  # nothing came within its time

    async def end_polls(self) -> None:
        for task in self.polls:
            task.cancel()
        await asyncio.gather(*self.polls, return_exceptions=True)

    def ask(self) -> Enqueue:
        ticket = next(self.asking)
        self.num_tokens[ticket.lease_id] = ticket.num_tokens
        return Enqueue(ticket)

    def submit(self, owner: str, messages: Sequence[QueueMessage]) -> list[Grant]:
        """What the owner hears."""
        return self.take(owner, self.state.submit(owner, messages, self.num_seen.get(owner, 0), time.time()))

    async def poll(self, owner: str) -> list[Grant]:
        return self.take(owner, await self.state.poll(owner, self.num_seen[owner]))

    def take(self, owner: str, delivery: Delivery) -> list[Grant]:
        """The grants in it that the owner has not seen."""
        unseen = delivery.answers[max(0, self.num_seen.get(owner, 0) - delivery.first) :]
        self.num_seen[owner] = delivery.first + len(delivery.answers)
        return [answer.grant for answer in unseen if isinstance(answer, Granted)]
