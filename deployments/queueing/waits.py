"""Owns who in this process waits for a grant, and which leases were granted here and have not ended. Sends nothing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from deployments.queueing.messages import Enqueue, Sent
from scheduling.request import Grant, Ticket
from scheduling.score import Stamp

_MAX_TAKEN_REMEMBERED = 65_536


class Waits:
    """Each wait by its lease id. A lease is taken once, however many queues grant it."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Ticket, asyncio.Future[Grant]]] = {}
        self._taken: OrderedDict[str, Stamp] = OrderedDict()
        self._holding: dict[str, Sent] = {}

    def begin(self, ticket: Ticket) -> asyncio.Future[Grant]:
        """Somebody waits from now on, until `end`."""
        granted: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._waiting[ticket.lease_id] = (ticket, granted)
        return granted

    def end(self, lease_id: str) -> None:
        del self._waiting[lease_id]

    def released(self, lease_id: str) -> None:
        """The lease is over; an unknown id is fine."""
        self._holding.pop(lease_id, None)

    def asked(self) -> list[Enqueue]:
        """What a queue that is new must be asked: tickets keep the stamps that they were told."""
        return [Enqueue(ticket) for ticket, granted in self._waiting.values() if not granted.done()]

    def held(self) -> list[Sent]:
        """The leases that a queue which is new must be told of, each with its ticket."""
        return [sent for lease_id, sent in self._holding.items() if lease_id not in self._waiting]

    def stamped(self, lease_id: str, stamp: Stamp) -> None:
        """The queue has given a ticket its place."""
        if (waiting := self._waiting.get(lease_id)) is not None:
            self._waiting[lease_id] = (replace(waiting[0], stamp=stamp), waiting[1])

    def refuse(self, lease_id: str, error: Exception) -> None:
        """The wait ends with this error; an unknown id, or one that ended, is fine."""
        waiting = self._waiting.get(lease_id)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_exception(error)

    def refuse_all(self, why: Callable[[], Exception]) -> list[str]:
        """All waits end, each with an error of its own; returns whose."""
        refused = [lease_id for lease_id, (_, granted) in self._waiting.items() if not granted.done()]
        for lease_id in refused:
            self.refuse(lease_id, why())
        return refused

    def has_taken(self, lease_id: str) -> bool:
        """Whether it was granted before: a second grant comes from a queue that has not heard of the first's end."""
        return lease_id in self._taken

    def stamp_of(self, lease_id: str) -> Stamp | None:
        """Of a lease that was granted here lately, whether it has ended or not."""
        return self._taken.get(lease_id)

    def take(self, grant: Grant) -> bool:
        """Hands a grant to who waits for it; false if nobody does any more."""
        waiting = self._waiting.get(grant.lease_id)
        if waiting is None or waiting[1].done():
            return False
        self._remember(grant)
        ticket = replace(waiting[0], stamp=grant.stamp)
        self._holding[grant.lease_id] = Sent(grant.lease_id, grant.replica_id, ticket)
        waiting[1].set_result(grant)
        return True

    def _remember(self, grant: Grant) -> None:
        self._taken[grant.lease_id] = grant.stamp
        if len(self._taken) > _MAX_TAKEN_REMEMBERED:
            self._taken.popitem(last=False)
