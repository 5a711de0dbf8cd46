"""Owns what each replica can hold and holds: slots and KV tokens. Knows nothing of keys, owners or clocks."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from scheduling.request import TokenNeed


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What a replica says of itself when it registers.

    kv_tokens: tokens that its whole KV cache holds.
    max_model_len: tokens of prompt and output of one sequence.
    incarnation: rises with every start of the replica (its start time will do); a message that carries a lower one
        came late and is ignored.
    started_in_s: what its start took; None where it does not say.

    Raises:
        ValueError: a limit is below 1, or the time is negative, infinite or not a number.
    """

    replica_id: str
    max_num_seqs: int
    kv_tokens: int
    max_model_len: int
    incarnation: int
    started_in_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "kv_tokens", "max_model_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)!r}")
        if self.started_in_s is not None and not 0 <= self.started_in_s < math.inf:
            raise ValueError(f"started_in_s: expected a finite number of at least 0, got {self.started_in_s!r}")

    @property
    def max_request_tokens(self) -> int:
        """The largest sequence that it can hold when it is empty."""
        return min(self.kv_tokens, self.max_model_len)


class WaitReason(enum.StrEnum):
    """Why a ticket waits."""

    NO_REPLICA = "no replica"
    QUARANTINED = "replica quarantined"
    NO_FREE_SLOT = "no free slot"
    NO_KV_ROOM = "no KV room"
    BEHIND_HEAD = "room reserved for the head"
    READY = "ready"


@dataclass(slots=True)
class Replica:
    """One replica's account. `held` maps each lease to the KV tokens reserved for it."""

    state: ReplicaState
    held: dict[str, int] = field(default_factory=dict)
    quarantined: bool = False

    @property
    def num_free_slots(self) -> int:
        """Never negative: a replica may hold more than was granted when a claim came late."""
        return max(0, self.state.max_num_seqs - len(self.held))

    @property
    def num_reserved_tokens(self) -> int:
        return sum(self.held.values())

    @property
    def num_free_tokens(self) -> int:
        return max(0, self.state.kv_tokens - self.num_reserved_tokens)

    def could_ever_hold(self, need: TokenNeed) -> bool:
        return need.most <= self.state.max_request_tokens

    def has_room_for(self, need: TokenNeed) -> bool:
        fits_now = self.num_free_slots > 0 and need.expected <= self.num_free_tokens
        return fits_now and not self.quarantined and self.could_ever_hold(need)


class Fleet:
    """All registered replicas of one model."""

    def __init__(self) -> None:
        self._replicas: dict[str, Replica] = {}

    def __iter__(self) -> Iterator[Replica]:
        """By replica id."""
        return iter(sorted(self._replicas.values(), key=lambda replica: replica.state.replica_id))

    def get(self, replica_id: str) -> Replica | None:
        return self._replicas.get(replica_id)

    def register(self, state: ReplicaState) -> None:
        """Adds a replica, or takes its new limits and lifts its quarantine; what it holds stays."""
        replica = self._replicas.setdefault(state.replica_id, Replica(state))
        replica.state, replica.quarantined = state, False

    def remove(self, replica_id: str) -> None:
        self._replicas.pop(replica_id, None)

    def quarantine(self, replica_id: str) -> None:
        if (replica := self._replicas.get(replica_id)) is not None:
            replica.quarantined = True

    def hold(self, replica_id: str, lease_id: str, num_tokens: int) -> None:
        """Books a slot and its KV tokens; nothing to book on a replica that is not registered."""
        if (replica := self._replicas.get(replica_id)) is not None:
            replica.held[lease_id] = num_tokens

    def free(self, replica_id: str, lease_id: str) -> None:
        if (replica := self._replicas.get(replica_id)) is not None:
            replica.held.pop(lease_id, None)

    def best_for(self, need: TokenNeed) -> str | None:
        """The replica with room that has most free slots, then most free KV tokens, then the lowest id."""
        candidates = [replica for replica in self._replicas.values() if replica.has_room_for(need)]
        return min(candidates, key=_load).state.replica_id if candidates else None

    def max_request_tokens(self) -> int | None:
        """The largest request that any replica, quarantined ones included, can ever hold; None without replicas."""
        return max((replica.state.max_request_tokens for replica in self._replicas.values()), default=None)

    def wait_reason(self, need: TokenNeed) -> WaitReason:
        """What keeps a request of this size, were it the head, from a replica."""
        able = [replica for replica in self._replicas.values() if replica.could_ever_hold(need)]
        open_to_it = [replica for replica in able if not replica.quarantined]
        if not open_to_it:
            return WaitReason.QUARANTINED if able else WaitReason.NO_REPLICA
        if not any(replica.num_free_slots for replica in open_to_it):
            return WaitReason.NO_FREE_SLOT
        fits = any(replica.has_room_for(need) for replica in open_to_it)
        return WaitReason.READY if fits else WaitReason.NO_KV_ROOM


def _load(replica: Replica) -> tuple[int, int, str]:
    return (-replica.num_free_slots, -replica.num_free_tokens, replica.state.replica_id)
