"""Owns the queue between the wire and the dispatcher: mailboxes, heartbeats, membership. Knows nothing of Ray.

Everything runs on one event loop, and no method but `poll` awaits, so no state is ever seen half changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from deployments.deployment_actors import ActorIdentity
from deployments.queueing.messages import (
    Cancel,
    Claim,
    Configure,
    Delivery,
    Enqueue,
    Granted,
    Mailbox,
    QueueAnswer,
    Queued,
    QueueMessage,
    Refused,
    Register,
    Release,
    Retired,
    SendFailed,
)
from scheduling.dispatcher import Dispatcher
from scheduling.errors import SchedulingError
from scheduling.request import Ticket

POLL_S = 2.0  # a parked poll returns empty after this long; polling again is the owner's heartbeat
OWNER_SILENCE_S = 6.0  # an owner not heard of for this long is gone, and with it all that it held


@dataclass(slots=True)
class _Owner:
    """A router or a replica that speaks to this queue."""

    heard_s: float
    mailbox: Mailbox = field(default_factory=Mailbox)
    posted: asyncio.Event = field(default_factory=asyncio.Event)


class QueueState:
    """Messages and time in, deliveries out."""

    def __init__(self, dispatcher: Dispatcher, identity: ActorIdentity) -> None:
        self.dispatcher = dispatcher
        self.identity = identity
        self._owners: dict[str, _Owner] = {}
        self._registered: dict[str, Register] = {}
        self._owner_of_replica: dict[str, str] = {}
        self._running: frozenset[str] | None = None  # Serve's list of running replicas; None until it has spoken

    def submit(self, owner: str, messages: Sequence[QueueMessage], num_seen: int, now_s: float) -> Delivery:
        """Take a batch in, in order, and return what is decided for this owner by then."""
        box = self._hear(owner, num_seen, now_s).mailbox
        if self.identity.retired:
            box.post(Retired())
            return box.delivery()
        for message in messages:
            self._apply(owner, message, now_s)
        self._decide(now_s)
        self._tell_who_waits(owner, messages)
        return box.delivery()

    async def poll(self, owner: str, num_seen: int, now_s: float) -> Delivery:
        """Wait until something is decided for this owner, at most `POLL_S`."""
        state = self._hear(owner, num_seen, now_s)
        if self.identity.retired and not state.mailbox.answers:
            state.mailbox.post(Retired())
        if not state.mailbox.answers:
            state.posted.clear()
            with contextlib.suppress(TimeoutError):  # an empty delivery is the answer then
                await asyncio.wait_for(state.posted.wait(), POLL_S)
        return state.mailbox.delivery()

    def tick(self, now_s: float) -> None:
        """What only the passing of time brings about."""
        for name in [name for name, owner in self._owners.items() if now_s - owner.heard_s > OWNER_SILENCE_S]:
            self._forget(name)
        self._decide(now_s)

    def follow(self, running: frozenset[str], now_s: float) -> None:
        """Serve's list has changed: whoever left it is granted nothing more, whoever joined it may be."""
        known = frozenset(self._registered)
        for replica_id in known - running:
            self.dispatcher.remove_replica(replica_id)
        for replica_id in known & running - (self._running or frozenset()):
            self._admit(self._registered[replica_id])
        self._registered = {r: m for r, m in self._registered.items() if r in running or self._running is None}
        self._running = running
        self._decide(now_s)

    def retire(self) -> None:
        """A newer queue has started: send everyone there, and grant nothing any more."""
        self.identity = replace(self.identity, retired=True)
        for owner in self._owners:
            self._post(owner, Retired())

    def _apply(self, owner: str, message: QueueMessage, now_s: float) -> None:
        match message:
            case Enqueue(ticket):
                self._enqueue(owner, ticket, now_s)
            case Cancel(lease_id):
                self.dispatcher.cancel(lease_id)
            case Release(lease_id):
                self.dispatcher.release(lease_id)
            case SendFailed(lease_id, replica_id):
                self.dispatcher.release(lease_id)
                self.dispatcher.quarantine(replica_id)
            case Claim(lease_id, replica_id):
                self.dispatcher.claim(lease_id, replica_id)
            case Register(state):
                self._registered[state.replica_id] = message
                self._owner_of_replica[owner] = state.replica_id
                if self._running is None or state.replica_id in self._running:
                    self._admit(message)
            case Configure(policy, bounds):
                self.dispatcher.reconfigure(policy, bounds)
            case _:
                assert_never(message)

    def _enqueue(self, owner: str, ticket: Ticket, now_s: float) -> None:
        try:
            self.dispatcher.enqueue(ticket, owner, now_s)
        except SchedulingError as error:
            self._post(owner, Refused(ticket.lease_id, error))

    def _tell_who_waits(self, owner: str, messages: Sequence[QueueMessage]) -> None:
        for message in messages:
            if isinstance(message, Enqueue):
                stamp = self.dispatcher.waiting_stamp(message.ticket.lease_id)
                if stamp is not None:
                    self._post(owner, Queued(message.ticket.lease_id, stamp))

    def _admit(self, message: Register) -> None:
        self.dispatcher.register_replica(message.state, message.holding)

    def _decide(self, now_s: float) -> None:
        if self.identity.retired:
            return
        for expired in self.dispatcher.expire(now_s):
            self._post(expired.owner, Refused(expired.lease_id, expired.error))
        for owner, grant in self.dispatcher.dispatch(now_s):
            self._post(owner, Granted(grant))
        for event in self.dispatcher.drain_events():
            self._post(event.owner, Refused(event.lease_id, event.error))

    def _post(self, owner: str, answer: QueueAnswer) -> None:
        if (state := self._owners.get(owner)) is not None:
            state.mailbox.post(answer)
            state.posted.set()

    def _hear(self, owner: str, num_seen: int, now_s: float) -> _Owner:
        state = self._owners.setdefault(owner, _Owner(now_s))
        state.heard_s = now_s
        state.mailbox.acknowledge(num_seen)
        return state

    def _forget(self, owner: str) -> None:
        del self._owners[owner]
        self.dispatcher.drop_owner(owner)
        if (replica_id := self._owner_of_replica.pop(owner, None)) is not None:
            self.dispatcher.quarantine(replica_id)
