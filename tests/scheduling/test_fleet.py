"""Which replica takes a request: the heaps choose what looking at every replica would."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scheduling.fleet import Fleet
from scheduling.replicas import Held, ReplicaState, WaitReason
from scheduling.request import TokenNeed
from tests.factories import make_replica

KV_TOKENS = 100
SMALL = TokenNeed(10, 10)
NEEDS = (SMALL, TokenNeed(60, 30), TokenNeed(100, 90), TokenNeed(150, 20))
KEYS = (-5.0, 0.0, 5.0, 8.0)

replica_ids = st.sampled_from(["r1", "r2", "r3"])
lease_ids = st.sampled_from([f"lease-{number}" for number in range(12)])
helds = st.builds(Held, st.sampled_from([10, 30, 60]), st.sampled_from([*KEYS, math.inf]), st.booleans())


def levels_as_keys(levels: float) -> float:
    return levels


class FleetMachine(RuleBasedStateMachine):
    """Keeps what each replica holds in plain dictionaries, and looks at all of it for each choice."""

    @initialize()
    def start(self) -> None:
        self.fleet = Fleet()
        self.states: dict[str, ReplicaState] = {}
        self.held: dict[str, dict[str, Held]] = {}
        self.quarantined: set[str] = set()

    @rule(replica_id=replica_ids, max_num_seqs=st.integers(1, 3), parked_limit=st.integers(0, 2))
    def register(self, replica_id: str, max_num_seqs: int, parked_limit: int) -> None:
        state = make_replica(replica_id, max_num_seqs=max_num_seqs, kv_tokens=KV_TOKENS, parked_limit=parked_limit)
        self.fleet.register(state)
        self.states[replica_id] = state
        self.held.setdefault(replica_id, {})
        self.quarantined.discard(replica_id)

    @rule(replica_id=replica_ids)
    def remove(self, replica_id: str) -> None:
        self.fleet.remove(replica_id)
        self.states.pop(replica_id, None)
        self.held.pop(replica_id, None)
        self.quarantined.discard(replica_id)

    @rule(replica_id=replica_ids)
    def quarantine(self, replica_id: str) -> None:
        self.fleet.quarantine(replica_id)
        if replica_id in self.states:
            self.quarantined.add(replica_id)

    @rule(replica_id=replica_ids, leases=st.dictionaries(lease_ids, helds, min_size=1, max_size=4))
    def hold(self, replica_id: str, leases: dict[str, Held]) -> None:
        for lease_id, held in leases.items():
            self.fleet.hold(replica_id, lease_id, held)
            if replica_id in self.held:
                self.held[replica_id].pop(lease_id, None)
                self.held[replica_id][lease_id] = held

    @rule(replica_id=replica_ids, lease_id=lease_ids)
    def free(self, replica_id: str, lease_id: str) -> None:
        self.fleet.free(replica_id, lease_id)
        self.held.get(replica_id, {}).pop(lease_id, None)

    @rule(shift=st.sampled_from([-4.0, 4.0]))
    def rekey(self, shift: float) -> None:
        keys = {lease_id: shift + number for number, lease_id in enumerate(sorted({*self.all_leases()}))}
        self.fleet.rekey(keys.__getitem__)
        for held in self.held.values():
            for lease_id, known in list(held.items()):
                held[lease_id] = Held(known.num_tokens, keys[lease_id], known.is_parked)

    @invariant()
    def the_roomiest_that_fits_is_chosen(self) -> None:
        for need in NEEDS:
            fitting = [replica_id for replica_id in self.states if self.has_room(replica_id, need)]
            assert self.fleet.best_for(need) == min(fitting, key=self.load, default=None)

    @invariant()
    def a_free_slot_is_known_of(self) -> None:
        free = [replica_id for replica_id in self.open_replicas() if self.num_free_slots(replica_id)]
        assert self.fleet.has_free_slot == bool(free)

    @invariant()
    def those_give_way_whose_best_is_the_lowest(self) -> None:
        for need in NEEDS:
            for key in (*KEYS, 20.0):
                for is_urgent in (False, True):
                    found = self.fleet.where_outranked(need, key, levels_as_keys, is_urgent=is_urgent)
                    assert found == self.outranked(need, key, is_urgent)

    @invariant()
    def the_reason_to_wait_is_the_first_that_applies(self) -> None:
        for need in NEEDS:
            assert self.fleet.wait_reason(need) == self.reason(need)

    @invariant()
    def the_largest_request_is_that_of_any_replica(self) -> None:
        assert self.fleet.max_request_tokens() == (KV_TOKENS if self.states else None)

    def all_leases(self) -> list[str]:
        return [lease_id for held in self.held.values() for lease_id in held]

    def open_replicas(self) -> list[str]:
        return [replica_id for replica_id in self.states if replica_id not in self.quarantined]

    def running(self, replica_id: str) -> list[Held]:
        return [held for held in self.held[replica_id].values() if not held.is_parked]

    def num_free_slots(self, replica_id: str) -> int:
        state = self.states[replica_id]
        num_places = state.max_num_seqs + state.parked_limit - len(self.held[replica_id])
        return max(0, min(state.max_num_seqs - len(self.running(replica_id)), num_places))

    def num_free_tokens(self, replica_id: str) -> int:
        return max(0, KV_TOKENS - sum(held.num_tokens for held in self.running(replica_id)))

    def has_room(self, replica_id: str, need: TokenNeed) -> bool:
        fits = self.num_free_slots(replica_id) > 0 and need.expected <= self.num_free_tokens(replica_id)
        return fits and need.most <= KV_TOKENS and replica_id not in self.quarantined

    def load(self, replica_id: str) -> tuple[int, int, str]:
        return (-self.num_free_slots(replica_id), -self.num_free_tokens(replica_id), replica_id)

    def best_victims_key(self, replica_id: str, need: TokenNeed, is_urgent: bool) -> float | None:
        """Of the fewest of the lowest that, had they stopped, would leave a slot and the tokens."""
        state, held, running = self.states[replica_id], self.held[replica_id], self.running(replica_id)
        num_to_park = state.parked_limit if is_urgent else state.parked_limit - state.parked_limit // 2
        if len(held) >= state.max_num_seqs + num_to_park or need.most > KV_TOKENS:
            return None
        lowest_first = sorted(running, key=lambda each: each.key)
        for count in range(1, min(len(running), state.parked_limit - len(held) + len(running)) + 1):
            staying = lowest_first[count:]
            num_tokens = sum(each.num_tokens for each in staying) + need.expected
            if len(staying) < state.max_num_seqs and num_tokens <= KV_TOKENS:
                return lowest_first[count - 1].key
        return None

    def outranked(self, need: TokenNeed, key: float, is_urgent: bool) -> str | None:
        places = [
            (victims_key, replica_id)
            for replica_id in self.open_replicas()
            if (victims_key := self.best_victims_key(replica_id, need, is_urgent)) is not None
            and key > victims_key + self.states[replica_id].preemption_margin_levels
        ]
        return min(places)[1] if places else None

    def reason(self, need: TokenNeed) -> WaitReason:
        if need.most > KV_TOKENS or not self.states:
            return WaitReason.NO_REPLICA
        if not self.open_replicas():
            return WaitReason.QUARANTINED
        if not any(self.num_free_slots(replica_id) for replica_id in self.open_replicas()):
            return WaitReason.NO_FREE_SLOT
        fits = any(self.has_room(replica_id, need) for replica_id in self.open_replicas())
        return WaitReason.READY if fits else WaitReason.NO_KV_ROOM


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_is_held_on_a_replica_that_is_not_registered_counts_nowhere() -> None:
    fleet = Fleet()
    fleet.hold("r1", "lease", Held(10))
    fleet.register(make_replica("r1", max_num_seqs=1))
    assert fleet.best_for(SMALL) == "r1"


def test_a_registration_that_changes_nothing_keeps_what_is_held() -> None:
    fleet = Fleet()
    for _ in range(2):
        fleet.register(make_replica("r1", max_num_seqs=1))
        fleet.hold("r1", "lease", Held(10))
    assert fleet.best_for(SMALL) is None


def test_a_replica_with_the_prompts_beginning_is_preferred_while_no_other_is_far_less_busy() -> None:
    fleet = Fleet()
    for replica_id in ("r1", "r2"):
        fleet.register(make_replica(replica_id, max_num_seqs=4))
    fleet.remember("r2", ["beginning"])
    assert fleet.best_for(SMALL) == "r1"
    assert fleet.best_for(SMALL, ["beginning"]) == "r2"
    for number in range(3):
        fleet.hold("r2", f"lease-{number}", Held(10))
    assert fleet.best_for(SMALL, ["beginning"]) == "r1"


def test_a_replica_that_began_anew_is_not_preferred_for_what_it_held() -> None:
    fleet = Fleet()
    for replica_id in ("r1", "r2"):
        fleet.register(make_replica(replica_id))
    fleet.remember("r2", ["beginning"])
    fleet.register(make_replica("r2", incarnation=2))
    assert fleet.best_for(SMALL, ["beginning"]) == "r1"


def test_a_replica_that_is_gone_is_not_preferred_for_what_it_held() -> None:
    fleet = Fleet()
    for replica_id in ("r1", "r2"):
        fleet.register(make_replica(replica_id))
    fleet.remember("r2", ["beginning"])
    fleet.remove("r2")
    assert fleet.best_for(SMALL, ["beginning"]) == "r1"
