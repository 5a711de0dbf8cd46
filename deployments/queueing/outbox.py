"""Owns what one process has yet to tell a queue, in order and without what has become void. Sends nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from deployments.queueing.messages import (
    Cancel,
    Claim,
    Configure,
    Enqueue,
    Fallen,
    Parked,
    QueueMessage,
    Register,
    Release,
    SendFailed,
    Sent,
)

LEASE_NEWS = (Cancel, Claim, Fallen, Parked, Release, SendFailed, Sent)  # a queue that is new to us must hear it too
STANDING_NEWS = (Configure, Register)  # said again and again; the newest of a kind says all that the others did

_Key = str | int | type[QueueMessage]


class Outbox:
    """Each message under what makes another one void: a kind of standing news, the lease that is asked for, or nothing.

    While there is no queue nothing is taken out, and clients that come and go must not add up: a ticket that was never
    tried to be sent goes with its `Cancel`, and both are forgotten.
    """

    def __init__(self) -> None:
        self._messages: dict[_Key, QueueMessage] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[QueueMessage]:
        return iter(self._messages.values())

    def put(self, message: QueueMessage) -> None:
        match message:
            case Enqueue(ticket):
                self._messages[ticket.lease_id] = message
            case Cancel(lease_id) if lease_id in self._messages:
                del self._messages[lease_id]
            case Configure() | Register():
                self._messages.pop(type(message), None)
                self._messages[type(message)] = message
            case _:
                self._messages[next(self._numbers)] = message

    def take(self) -> list[QueueMessage]:
        """All of it, to be sent now."""
        taken = list(self._messages.values())
        self._messages.clear()
        return taken

    def take_lease_news(self) -> list[QueueMessage]:
        """What a queue that is new must hear; the rest is void, because the introduction says it anew."""
        return [message for message in self.take() if isinstance(message, LEASE_NEWS)]

    def put_back(self, batch: Sequence[QueueMessage]) -> None:
        """Before all else, what was tried to be sent: the queue may have it, so a `Cancel` must follow its ticket."""
        tried: dict[_Key, QueueMessage] = {}
        for message in batch:
            if not isinstance(message, STANDING_NEWS):
                tried[next(self._numbers)] = message
            elif type(message) not in self._messages:
                tried[type(message)] = message
        self._messages = tried | self._messages
