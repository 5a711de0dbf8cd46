"""Owns which replica takes a request: by room, and by who could give way. Knows nothing of owners or of clocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from scheduling.affinity import PrefixAffinity
from scheduling.lazy_heap import LazyHeap
from scheduling.replicas import Held, Replica, ReplicaState, WaitReason
from scheduling.request import TokenNeed

_NOTHING = TokenNeed(0, 0)
_MOST_TRIED = 16  # replicas, those with the lowest keys first: where slots are short, the first of them will do
BUSIER = 2  # a replica is preferred for its cache unless another has more than so many times its free slots


class Fleet:
    """All registered replicas of one model.

    Heaps keep each choice logarithmic in the replicas: who has most room, and where the lowest key runs that may give
    way to a newcomer, above standard priority or not.
    """

    def __init__(self) -> None:
        self._replicas: dict[str, Replica] = {}
        self._roomiest = LazyHeap()
        self._weakest = {for_urgent: LazyHeap() for for_urgent in (False, True)}
        self._changed: set[str] = set()  # their place in `_weakest` is to be worked out anew
        self._max_request_tokens: int | None = None
        self._affinity = PrefixAffinity()

    def __iter__(self) -> Iterator[Replica]:
        """By replica id."""
        return iter(sorted(self._replicas.values(), key=lambda replica: replica.state.replica_id))

    def __len__(self) -> int:
        return len(self._replicas)

    def get(self, replica_id: str) -> Replica | None:
        return self._replicas.get(replica_id)

    def register(self, state: ReplicaState) -> None:
        """Adds a replica, or takes its new limits and lifts its quarantine; what it holds stays."""
        replica = self._replicas.setdefault(state.replica_id, Replica(state))
        is_new = replica.state is state
        if not is_new and not replica.quarantined and replica.state == state:
            return
        if state.incarnation > replica.state.incarnation:
            self._affinity.forget(state.replica_id)  # its cache is empty
        replica.state, replica.quarantined = state, False
        self._note_largest()
        self._place(replica)

    def remove(self, replica_id: str) -> None:
        self._replicas.pop(replica_id, None)
        self._roomiest.discard(replica_id)
        for weakest in self._weakest.values():
            weakest.discard(replica_id)
        self._changed.discard(replica_id)
        self._affinity.forget(replica_id)
        self._note_largest()

    def quarantine(self, replica_id: str) -> None:
        if (replica := self._replicas.get(replica_id)) is not None:
            replica.quarantined = True
            self._place(replica)

    def hold(self, replica_id: str, lease_id: str, held: Held) -> None:
        """Books what a lease takes up; nothing to book on a replica that is not registered."""
        if (replica := self._replicas.get(replica_id)) is not None:
            replica.hold(lease_id, held)
            self._place(replica)

    def free(self, replica_id: str, lease_id: str) -> None:
        if (replica := self._replicas.get(replica_id)) is not None:
            replica.free(lease_id)
            self._place(replica)

    def rekey(self, key_of: Callable[[str], float]) -> None:
        """Other weights are in force. key_of: a lease's key by its id."""
        for replica in self._replicas.values():
            for lease_id, held in list(replica.held.items()):
                replica.hold(lease_id, Held(held.num_tokens, key_of(lease_id), held.is_parked))
            self._place(replica)

    def best_for(self, need: TokenNeed, prefixes: Sequence[str] = ()) -> str | None:
        """The replica with room that holds most of the prompt, then has most free slots, then most free KV tokens, then
        the lowest id. One that is far busier than another is not preferred for what it holds."""
        return self._nearest(need, prefixes) or self._roomiest_for(need)

    def remember(self, replica_id: str, prefixes: Sequence[str]) -> None:
        """A prompt that begins so is granted there."""
        if prefixes and len(self._replicas) > 1:
            self._affinity.remember(replica_id, prefixes, self._replicas[replica_id].state.kv_tokens)

    def _nearest(self, need: TokenNeed, prefixes: Sequence[str]) -> str | None:
        most = self._roomiest.first_position()
        if not prefixes or most is None:
            return None
        for replica_ids in self._affinity.holders(prefixes):
            replicas = [self._replicas[replica_id] for replica_id in replica_ids]
            near = [each for each in replicas if each.has_room_for(need) and -most[0] <= BUSIER * each.num_free_slots]
            if near:
                return min(near, key=_load).state.replica_id
        return None

    def _roomiest_for(self, need: TokenNeed) -> str | None:
        roomiest = self._roomiest.first()
        if roomiest is None or self._replicas[roomiest].has_room_for(need):
            return roomiest
        candidates = [replica for replica in self._replicas.values() if replica.has_room_for(need)]
        return min(candidates, key=_load).state.replica_id if candidates else None

    @property
    def has_free_slot(self) -> bool:
        return len(self._roomiest) > 0

    def where_outranked(
        self, need: TokenNeed, key: float, margin: Callable[[float], float], *, is_urgent: bool
    ) -> str | None:
        """The replica where those give way whose best has the lowest key, if `key` outranks it by the replica's margin;
        None if there is none.

        margin: what so many levels of priority are worth, in key units. is_urgent: the newcomer is above standard
        priority.
        """
        for replica_id in self._changed:
            self._place_victim(self._replicas[replica_id])
        self._changed.clear()
        found: tuple[float, str] | None = None
        for (first_key,), replica_id in islice(self._weakest[is_urgent].in_order(), _MOST_TRIED):
            if key <= first_key or (found is not None and found <= (first_key, replica_id)):
                break
            replica = self._replicas[replica_id]
            victim = replica.last_victim(need, for_urgent=is_urgent)
            if victim is not None and key > victim.key + margin(replica.state.preemption_margin_levels):
                found = min(found or (math.inf, ""), (victim.key, replica_id))
        return None if found is None else found[1]

    def max_request_tokens(self) -> int | None:
        """The largest request that any replica, quarantined ones included, can ever hold; None without replicas."""
        return self._max_request_tokens

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

    def _place(self, replica: Replica) -> None:
        replica_id = replica.state.replica_id
        if replica.num_free_slots and not replica.quarantined:
            self._roomiest.push(replica_id, (-replica.num_free_slots, -replica.num_free_tokens))
        else:
            self._roomiest.discard(replica_id)
        self._changed.add(replica_id)

    def _place_victim(self, replica: Replica) -> None:
        for for_urgent, weakest in self._weakest.items():
            victim = replica.last_victim(_NOTHING, for_urgent=for_urgent)
            if victim is None:
                weakest.discard(replica.state.replica_id)
            else:
                weakest.push(replica.state.replica_id, (victim.key,))

    def _note_largest(self) -> None:
        sizes = (replica.state.max_request_tokens for replica in self._replicas.values())
        self._max_request_tokens = max(sizes, default=None)


def _load(replica: Replica) -> tuple[int, int, str]:
    return (-replica.num_free_slots, -replica.num_free_tokens, replica.state.replica_id)
