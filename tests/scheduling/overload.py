"""Plays open-loop clients against a dispatcher on virtual time. The replica serves at a fixed rate; no engine."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from scheduling.dispatcher import Dispatcher
from scheduling.errors import SchedulingError
from scheduling.request import Ticket
from tests.factories import make_replica

NUM_SLOTS = 8
SLOT_TOKENS_PER_S = 50.0  # of each, however many are taken
NUM_TOKENS = 128  # of each request
CAPACITY_PER_S = NUM_SLOTS * SLOT_TOKENS_PER_S / NUM_TOKENS  # requests


@dataclass(frozen=True)
class Client:
    """One request: made by `ticket(attempt)`, and how often it has been sent."""

    number: int
    ticket: Callable[[int, int], Ticket]
    num_attempts: int = 0


@dataclass
class Outcome:
    """What became of everybody: waits of those who started, in seconds from the attempt that was let in."""

    waits_s: dict[int, float] = field(default_factory=dict)
    started_at_s: dict[int, float] = field(default_factory=dict)
    num_first_refused: int = 0
    num_returned: int = 0
    num_let_in_on_return: int = 0
    busy_slot_s: float = 0.0


class Overload:
    """`rate_per_s` clients a second for `seconds`; those who are refused come back when they are told, if they do."""

    def __init__(self, dispatcher: Dispatcher, *, comes_back: float = 1.0, seed: int = 1) -> None:
        self.dispatcher = dispatcher
        self.dispatcher.register_replica(make_replica("r", max_num_seqs=NUM_SLOTS, kv_tokens=100_000))
        self.comes_back = comes_back
        self.random = random.Random(seed)
        self.outcome = Outcome()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0
        self._sent_s: dict[str, float] = {}
        self._num_served = 0.0
        self._num_running = 0
        self.now_s = 0.0

    def at(self, when_s: float, event: Callable[[], None]) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (when_s, self._num_events, event))

    def offer(self, rate_per_s: float, seconds: float, ticket: Callable[[int, int], Ticket], first: int = 0) -> int:
        """`rate_per_s` clients a second from now on, for so many seconds; returns how many there will be."""
        when_s, number, until_s = self.now_s, first, self.now_s + seconds
        while (when_s := when_s + self.random.expovariate(rate_per_s)) < until_s:
            number += 1
            client = Client(number, ticket)
            self.at(when_s, lambda client=client: self._send(client))  # type: ignore[misc]
        return number - first

    def run(self, until_s: float) -> Outcome:
        for second in range(int(self.now_s), int(until_s)):
            self.at(second + 0.5, self._report)
        while self._events and self._events[0][0] <= until_s:
            when_s, _, event = heapq.heappop(self._events)
            self._num_served += self._num_running * SLOT_TOKENS_PER_S * (when_s - self.now_s)
            self.outcome.busy_slot_s += self._num_running * (when_s - self.now_s)
            self.now_s = when_s
            event()
            self._dispatch()
        return self.outcome

    def _report(self) -> None:
        self.dispatcher.observe_service("r", int(self._num_served), self.now_s)

    def _send(self, client: Client) -> None:
        ticket = client.ticket(client.number, client.num_attempts)
        self.outcome.num_returned += client.num_attempts == 1
        try:
            self.dispatcher.enqueue(ticket, "ingress", self.now_s)
        except SchedulingError as refusal:
            self._refused(client, getattr(refusal, "retry_after_s", 1.0))
            return
        self._sent_s[ticket.lease_id] = self.now_s
        self.outcome.num_let_in_on_return += client.num_attempts == 1

    def _refused(self, client: Client, retry_after_s: float) -> None:
        self.outcome.num_first_refused += client.num_attempts == 0
        if client.num_attempts == 0 and self.random.random() < self.comes_back:
            again = Client(client.number, client.ticket, 1)
            self.at(self.now_s + retry_after_s + self.random.uniform(0, 0.2), lambda: self._send(again))

    def _dispatch(self) -> None:
        for _, grant in self.dispatcher.dispatch(self.now_s):
            lease_id = grant.lease_id
            self.dispatcher.claim(lease_id, "r")
            number = int(lease_id.split(".")[0])
            self.outcome.waits_s[number] = self.now_s - self._sent_s[lease_id]
            self.outcome.started_at_s[number] = self.now_s
            self._num_running += 1
            self.at(self.now_s + NUM_TOKENS / SLOT_TOKENS_PER_S, lambda lease_id=lease_id: self._end(lease_id))  # type: ignore[misc]
        self.dispatcher.drain_events()

    def _end(self, lease_id: str) -> None:
        self._num_running -= 1
        self.dispatcher.release(lease_id, NUM_TOKENS)
