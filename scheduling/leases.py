"""Owns which leases there are, what they take up, and which are over. Knows nothing of the order or of clocks."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass

from scheduling.fleet import Fleet
from scheduling.lazy_heap import LazyHeap
from scheduling.queued import QueuedTicket
from scheduling.replicas import Held
from scheduling.score import ScorePolicy


class LeaseStatus(enum.Enum):
    """GRANTED -> SENT when the owner has the grant and sends the call -> CLAIMED when the replica says that it runs.

    CLAIMED <-> PARKED when its engine has let it give way to another, and when it may run again.

    A grant that its owner never took goes back to the heap. A call that was sent and not claimed is forgotten: nobody
    waits for another grant of it, and a claim that comes late books it again.
    """

    GRANTED = "granted"
    SENT = "sent"
    CLAIMED = "claimed"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Lease:
    """A place on a replica. `queued` is None for a lease that only the replica has told of, after a restart."""

    lease_id: str
    replica_id: str
    status: LeaseStatus
    queued: QueuedTicket | None

    @property
    def owner(self) -> str | None:
        return None if self.queued is None else self.queued.owner

    @property
    def is_on_replica(self) -> bool:
        """Whether the replica has said that it has it."""
        return self.status in (LeaseStatus.CLAIMED, LeaseStatus.PARKED)

    @property
    def num_tokens(self) -> int:
        return 0 if self.queued is None else self.queued.ticket.need.expected


class LeaseTable:
    """All leases, each booked on its replica while that is registered, and when those not claimed yet fall due."""

    def __init__(self, fleet: Fleet, policy: ScorePolicy) -> None:
        self._fleet = fleet
        self._policy = policy
        self._leases: dict[str, Lease] = {}
        self._on: dict[str, dict[str, None]] = {}  # lease ids by replica
        self._due = LazyHeap()

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def get(self, lease_id: str) -> Lease | None:
        return self._leases.get(lease_id)

    def hold(self, lease: Lease) -> None:
        """Adds a lease, or replaces what was known of it on the same replica."""
        self._leases[lease.lease_id] = lease
        self._on.setdefault(lease.replica_id, {})[lease.lease_id] = None
        self._fleet.hold(lease.replica_id, lease.lease_id, self._held(lease))

    def hold_until(self, lease: Lease, due_s: float) -> None:
        """Adds or replaces a lease that is lost unless it gets further by `due_s`."""
        self.hold(lease)
        if due_s < math.inf:
            self._due.push(lease.lease_id, (due_s,))

    def next_due_s(self) -> float | None:
        first = self._due.first_position()
        return None if first is None else first[0]

    def take_due(self, now_s: float) -> list[Lease]:
        """Removes the leases that got no further in time, and frees their room."""
        return [lease for lease_id in self._due.pop_up_to((now_s,)) if (lease := self.take(lease_id)) is not None]

    def take(self, lease_id: str) -> Lease | None:
        """Removes a lease and frees its room; None when there is none, so that nothing is freed twice."""
        self._due.discard(lease_id)
        if (lease := self._leases.pop(lease_id, None)) is not None:
            self._fleet.free(lease.replica_id, lease_id)
            self._forget_place(lease)
        return lease

    def book_again(self, replica_id: str) -> None:
        """Books what was claimed by a replica before it registered."""
        for lease_id in self.on(replica_id):
            self._fleet.hold(replica_id, lease_id, self._held(self._leases[lease_id]))

    def on(self, replica_id: str) -> list[str]:
        return list(self._on.get(replica_id, ()))

    def claimed_on(self, replica_id: str) -> list[str]:
        return [lease_id for lease_id in self.on(replica_id) if self._leases[lease_id].is_on_replica]

    def rekey(self, policy: ScorePolicy) -> None:
        """Other weights are in force."""
        self._policy = policy
        self._fleet.rekey(self._key_of)

    def _key_of(self, lease_id: str) -> float:
        """Nobody outranks what is no lease: a place that is kept."""
        lease = self._leases.get(lease_id)
        return math.inf if lease is None else self._held(lease).key

    def _forget_place(self, lease: Lease) -> None:
        on_replica = self._on[lease.replica_id]
        del on_replica[lease.lease_id]
        if not on_replica:
            del self._on[lease.replica_id]

    def _held(self, lease: Lease) -> Held:
        key = math.inf if lease.queued is None else self._policy.key(lease.queued.stamp)
        return Held(lease.num_tokens, key, lease.status is LeaseStatus.PARKED)

    def of(self, owner: str) -> list[str]:
        return [lease.lease_id for lease in self._leases.values() if lease.owner == owner]
