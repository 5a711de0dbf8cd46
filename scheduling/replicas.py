"""Owns what one replica can hold and holds: slots and KV tokens. Knows nothing of other replicas, owners or clocks."""

from __future__ import annotations

import enum
import heapq
import math
from dataclasses import dataclass, field

from scheduling.request import TokenNeed


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What a replica says of itself when it registers.

    kv_tokens: tokens that its whole KV cache holds.
    max_model_len: tokens of prompt and output of one sequence.
    incarnation: rises with every start of the replica (its start time will do); a message that carries a lower one
        came late and is ignored.
    parked_limit: how many sequences its engine holds beside `max_num_seqs` running ones, because they gave way; 0 where
        nobody gives way. Half of these places are kept for newcomers above standard priority.
    preemption_margin_levels: by how many levels of priority a newcomer must outrank whoever gives way to it.
    started_in_s: what its start took; None where it does not say.

    Raises:
        ValueError: a limit is below 1, or one of the others is negative or not a number, or the start took for ever.
    """

    replica_id: str
    max_num_seqs: int
    kv_tokens: int
    max_model_len: int
    incarnation: int
    parked_limit: int = 0
    preemption_margin_levels: float = 5.0
    started_in_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "kv_tokens", "max_model_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)!r}")
        for name in ("parked_limit", "preemption_margin_levels"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)!r}")
        if self.started_in_s is not None and not 0 <= self.started_in_s < math.inf:
            raise ValueError(f"started_in_s: expected a finite number of at least 0, got {self.started_in_s!r}")

    def num_places(self, *, for_urgent: bool) -> int:
        """Sequences that it may hold, running and parked, when a newcomer makes another give way.

        Whoever makes the last one give way is let in before everybody of its rank; those after it wait for a slot. So
        that the many do not leave the few waiting, they may not use all places up.
        """
        kept = 0 if for_urgent else self.parked_limit // 2
        return self.max_num_seqs + self.parked_limit - kept

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
    GAVE_WAY = "gave way on its replica"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Held:
    """What a lease takes up of a replica. key: infinite where only the replica has told of it; nobody outranks that."""

    num_tokens: int
    key: float = math.inf
    is_parked: bool = False


@dataclass(slots=True)
class Replica:
    """One replica's account: what each lease on it takes up. A parked one has neither slot nor KV tokens."""

    state: ReplicaState
    held: dict[str, Held] = field(default_factory=dict)
    quarantined: bool = False
    num_parked: int = 0
    num_reserved_tokens: int = 0

    def hold(self, lease_id: str, held: Held) -> None:
        """Adds a lease, or replaces what was known of it."""
        self.free(lease_id)
        self.held[lease_id] = held
        self._count(held, 1)

    def free(self, lease_id: str) -> None:
        if (held := self.held.pop(lease_id, None)) is not None:
            self._count(held, -1)

    @property
    def num_running(self) -> int:
        """Leases that have a slot, or have been promised that somebody will give way."""
        return len(self.held) - self.num_parked

    @property
    def num_free_slots(self) -> int:
        """For newcomers: those who gave way may take up no more than their own places, and nobody is sent to a replica
        that holds all that it can. Never negative: it may hold more than was granted when a claim came late."""
        num_places = self.state.num_places(for_urgent=True) - len(self.held)
        return max(0, min(self.state.max_num_seqs - self.num_running, num_places))

    @property
    def num_free_tokens(self) -> int:
        return max(0, self.state.kv_tokens - self.num_reserved_tokens)

    def could_ever_hold(self, need: TokenNeed) -> bool:
        return need.most <= self.state.max_request_tokens

    def has_room_for(self, need: TokenNeed) -> bool:
        fits_now = self.num_free_slots > 0 and need.expected <= self.num_free_tokens
        return fits_now and not self.quarantined and self.could_ever_hold(need)

    def could_resume(self, need: TokenNeed) -> bool:
        """Whether one that is parked here could run again now."""
        has_slot = self.num_running < self.state.max_num_seqs
        return has_slot and need.expected <= self.num_free_tokens and not self.quarantined

    def last_victim(self, need: TokenNeed, *, for_urgent: bool) -> Held | None:
        """The best of those who would give way to one newcomer more: the lowest keys, as many as it takes for it to
        have a slot and KV tokens. None if none may, or not enough.

        for_urgent: the newcomer is above standard priority.

        The engine chooses whom; it goes by the same keys. Newcomers who were granted a place beyond the slots or the
        tokens, each at the cost of others, are counted by what they lack.
        """
        full = len(self.held) >= self.state.num_places(for_urgent=for_urgent)
        if full or self.quarantined or not self.could_ever_hold(need):
            return None
        num_lacking = max(1, self.num_running + 1 - self.state.max_num_seqs)
        tokens_lacking = need.expected - (self.state.kv_tokens - self.num_reserved_tokens)
        running = (held for held in self.held.values() if not held.is_parked)
        for held in heapq.nsmallest(self.state.parked_limit - self.num_parked, running, key=_key):
            num_lacking -= 1
            tokens_lacking -= held.num_tokens
            if num_lacking <= 0 and tokens_lacking <= 0:
                return held
        return None

    def _count(self, held: Held, sign: int) -> None:
        self.num_parked += sign * held.is_parked
        self.num_reserved_tokens += sign * (0 if held.is_parked else held.num_tokens)


def _key(held: Held) -> float:
    return held.key
