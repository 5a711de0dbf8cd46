"""Owns which leases there are, what they take up, and which are over. Knows nothing of the order or of clocks."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass

from scheduling.queue import QueuedTicket
from scheduling.replicas import Fleet


class LeaseStatus(enum.Enum):
    """GRANTED -> CLAIMED when the replica says that it holds the lease. GRANTED -> waiting again when it does not."""

    GRANTED = "granted"
    CLAIMED = "claimed"


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
    def num_tokens(self) -> int:
        return 0 if self.queued is None else self.queued.ticket.need.expected


class LeaseTable:
    """All leases, each booked on its replica while that is registered."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def get(self, lease_id: str) -> Lease | None:
        return self._leases.get(lease_id)

    def hold(self, lease: Lease) -> None:
        """Adds a lease, or replaces what was known of it on the same replica."""
        self._leases[lease.lease_id] = lease
        self._fleet.hold(lease.replica_id, lease.lease_id, lease.num_tokens)

    def take(self, lease_id: str) -> Lease | None:
        """Removes a lease and frees its room; None when there is none, so that nothing is freed twice."""
        if (lease := self._leases.pop(lease_id, None)) is not None:
            self._fleet.free(lease.replica_id, lease_id)
        return lease

    def book_again(self, replica_id: str) -> None:
        """Books what was claimed by a replica before it registered."""
        for lease_id in self.on(replica_id):
            self._fleet.hold(replica_id, lease_id, self._leases[lease_id].num_tokens)

    def on(self, replica_id: str) -> list[str]:
        return [lease.lease_id for lease in self._leases.values() if lease.replica_id == replica_id]

    def claimed_on(self, replica_id: str) -> list[str]:
        return [lease_id for lease_id in self.on(replica_id) if self._leases[lease_id].status is LeaseStatus.CLAIMED]

    def of(self, owner: str) -> list[str]:
        return [lease.lease_id for lease in self._leases.values() if lease.owner == owner]


class EndedLeases:
    """Remembers the ids that ended last, so that a message which comes late does not bring one back to life."""

    def __init__(self, max_remembered: int) -> None:
        self._max_remembered = max_remembered
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._ids

    def add(self, lease_id: str) -> None:
        self._ids[lease_id] = None
        self._ids.move_to_end(lease_id)
        if len(self._ids) > self._max_remembered:
            self._ids.popitem(last=False)
