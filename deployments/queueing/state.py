"""Owns the queue between the wire and the dispatcher: mailboxes, heartbeats, membership. Knows nothing of Ray.

Everything runs on one event loop, and no method but `poll` awaits, so no state is ever seen half changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from deployments.deployment_actors import ActorIdentity
from deployments.queueing.messages import (
    Cancel,
    Claim,
    Configure,
    Delivery,
    Enqueue,
    Fallen,
    Granted,
    Introduce,
    Leave,
    Mailbox,
    Move,
    Parked,
    QueueAnswer,
    Queued,
    QueueMessage,
    Refused,
    Register,
    Release,
    Resume,
    Retired,
    SendFailed,
    Sent,
)
from scheduling.dispatcher import Dispatcher
from scheduling.errors import SchedulingError
from scheduling.events import Event, Moved, Resumed
from scheduling.load import ClassObjective
from scheduling.request import Ticket

POLL_S = 2.0  # a parked poll returns empty after this long; polling again is the owner's heartbeat
OWNER_SILENCE_S = 6.0  # an owner not heard of for this long is gone, and with it all that it held
LATE_TICK_S = 1.0  # a longer gap between two ticks is our own silence, not the owners'


@dataclass(slots=True)
class _Owner:
    """A router or a replica that speaks to this queue."""

    heard_s: float
    mailbox: Mailbox
    has_news: asyncio.Event = field(default_factory=asyncio.Event)


class QueueState:
    """Messages and time in, deliveries out.

    `now_s` is the wall clock, which stamps and deadlines go by; `steady_clock` only measures how long an owner has been
    silent, so that a clock set forward ends nobody.
    """

    def __init__(
        self, dispatcher: Dispatcher, identity: ActorIdentity, steady_clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.dispatcher = dispatcher
        self.identity = identity
        self.objectives: Mapping[str, ClassObjective] = {}  # those that an ingress told of last
        self._steady_clock = steady_clock
        self._ticked_s = steady_clock()
        self._first_seq = 1  # above every number that a forgotten owner may have seen
        self._owners: dict[str, _Owner] = {}
        self._told: set[str] = set()  # their parked polls have yet to be woken
        self._registered: dict[str, Register] = {}
        self._owner_of_replica: dict[str, str] = {}
        self._running: frozenset[str] | None = None  # Serve's list of running replicas; None until it has spoken

    def submit(self, owner: str, messages: Sequence[QueueMessage], num_seen: int, now_s: float) -> Delivery:
        """Take a batch in, in order, and return what is decided for this owner by then.

        num_seen: the owner has seen all answers numbered below; 0 when this batch is its introduction.
        """
        state = self._introduced(owner) if num_seen == 0 else self._hear(owner, num_seen)
        if state is None:
            return Delivery(num_seen, (Introduce(),))
        if self.identity.retired:
            state.mailbox.post(Retired())
            return state.mailbox.delivery()
        for message in messages:
            self._apply(owner, message, now_s)
        self._decide(now_s)
        self._tell_who_waits(owner, messages)
        self._wake_polls(but=owner)  # its news is in what this returns
        return state.mailbox.delivery()

    async def poll(self, owner: str, num_seen: int) -> Delivery:
        """Wait until something is decided for this owner, at most `POLL_S`."""
        if (state := self._hear(owner, num_seen)) is None:
            return Delivery(num_seen, (Introduce(),))
        if self.identity.retired and not state.mailbox.answers:
            state.mailbox.post(Retired())
        if not state.mailbox.answers:
            state.has_news.clear()
            with contextlib.suppress(TimeoutError):  # an empty delivery is the answer then
                await asyncio.wait_for(state.has_news.wait(), POLL_S)
        return state.mailbox.delivery()

    def tick(self, now_s: float) -> None:
        """What only the passing of time brings about."""
        steady_s = self._steady_clock()
        gap_s, self._ticked_s = steady_s - self._ticked_s, steady_s
        if gap_s > LATE_TICK_S:
            self._excuse_silence(gap_s)
        for name in [name for name, owner in self._owners.items() if steady_s - owner.heard_s > OWNER_SILENCE_S]:
            self._forget(name)
        self._decide(now_s)
        self._wake_polls()

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
        self._wake_polls()

    def retire(self) -> None:
        """A newer queue has started: send everyone there, and hold and grant nothing any more."""
        self.identity = replace(self.identity, retired=True)
        for owner in self._owners:
            self.dispatcher.drop_owner(owner)  # the newer queue counts it from now on
            self._post(owner, Retired())
        self._wake_polls()

    def _apply(self, owner: str, message: QueueMessage, now_s: float) -> None:
        match message:
            case Enqueue(ticket):
                self._enqueue(owner, ticket, now_s)
            case Cancel(lease_id):
                self.dispatcher.cancel(lease_id)
            case Release(lease_id, num_served):
                self.dispatcher.release(lease_id, num_served)
            case SendFailed(lease_id, replica_id):
                self.dispatcher.fail(lease_id)
                self.dispatcher.quarantine(replica_id)
            case Sent(lease_id, replica_id, ticket):
                self.dispatcher.sent(lease_id, replica_id, now_s, ticket, owner)
            case Claim(lease_id, replica_id):
                self.dispatcher.claim(lease_id, replica_id)
            case Parked(lease_id, replica_id):
                self.dispatcher.park(lease_id, replica_id)
            case Fallen(lease_id, level):
                self.dispatcher.restamp(lease_id, level)
            case Register(state):
                self._registered[state.replica_id] = message
                self._owner_of_replica[owner] = state.replica_id
                if self._running is None or state.replica_id in self._running:
                    self._admit(message)
                    self.dispatcher.observe_service(state.replica_id, message.num_served, now_s)
            case Leave(replica_id):
                self._registered.pop(replica_id, None)
                self.dispatcher.remove_replica(replica_id)
            case Configure(policy, bounds, tenant_weights, objectives, quotas):
                self.dispatcher.reconfigure(policy, bounds, tenant_weights, quotas)
                self.objectives = objectives
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
        self.dispatcher.register_replica(message.state, message.holding, message.parked)

    def _decide(self, now_s: float) -> None:
        if self.identity.retired:
            return
        for owner, grant in self.dispatcher.dispatch(now_s):
            self._post(owner, Granted(grant))
        for event in self.dispatcher.drain_events():
            self._tell(event)

    def _tell(self, event: Event) -> None:
        match event:
            case Resumed(replica_id, lease_id, stamp):
                self._post_to_replica(replica_id, Resume(lease_id, stamp))
            case Moved(replica_id, lease_id):
                self._post_to_replica(replica_id, Move(lease_id))
            case _:
                self._post(event.owner, Refused(event.lease_id, event.error))

    def _post_to_replica(self, replica_id: str, answer: QueueAnswer) -> None:
        """A replica that is not heard of any more has nothing to resume: what it parked ends with it."""
        for owner, its_replica in self._owner_of_replica.items():
            if its_replica == replica_id:
                self._post(owner, answer)

    def _post(self, owner: str, answer: QueueAnswer) -> None:
        if (state := self._owners.get(owner)) is not None:
            state.mailbox.post(answer)
            self._told.add(owner)

    def _wake_polls(self, but: str | None = None) -> None:
        told, self._told = self._told, set()
        for owner in told - {but}:
            self._owners[owner].has_news.set()

    def _introduced(self, owner: str) -> _Owner:
        """An owner that says everything anew; what it was told before and has not acknowledged, it is told again."""
        if owner not in self._owners:
            self._owners[owner] = _Owner(self._steady_clock(), Mailbox(self._first_seq))
        self._owners[owner].heard_s = self._steady_clock()
        return self._owners[owner]

    def _hear(self, owner: str, num_seen: int) -> _Owner | None:
        """None for one that is not known here, or no longer: what it said before its silence is lost."""
        if (state := self._owners.get(owner)) is not None:
            state.heard_s = self._steady_clock()
            state.mailbox.acknowledge(num_seen)
        return state

    def _excuse_silence(self, gap_s: float) -> None:
        """This queue was not running: what owners said meanwhile is still on its way."""
        for owner in self._owners.values():
            owner.heard_s = min(owner.heard_s + gap_s, self._ticked_s)

    def _forget(self, owner: str) -> None:
        self._first_seq = max(self._first_seq, self._owners.pop(owner).mailbox.next_seq)
        self.dispatcher.drop_owner(owner)
        if (replica_id := self._owner_of_replica.pop(owner, None)) is not None:
            self.dispatcher.quarantine(replica_id)
