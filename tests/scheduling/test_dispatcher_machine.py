"""The dispatcher under any sequence of events, against a model: nothing lost, nothing doubled, exact order."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher, Expired, Shed
from scheduling.errors import SchedulingError
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_replica, make_ticket

OWNERS = ("ingress-1", "ingress-2")
REPLICAS = ("replica-1", "replica-2")
MAX_NUM_SEQS = 2
KV_TOKENS = 100
CLAIM_TIMEOUT_S = 1.0
SENT_TIMEOUT_S = 10.0

owners = st.sampled_from(OWNERS)
replicas = st.sampled_from(REPLICAS)
policies = st.sampled_from([ScorePolicy(), ScorePolicy(2, 0.1), ScorePolicy(0, 1), ScorePolicy(1, 0)])
old_or_new = st.integers(min_value=0, max_value=30)


class Place(enum.Enum):
    WAITING = "waiting"
    GRANTED = "granted"
    SENT = "sent"
    CLAIMED = "claimed"
    GONE = "gone"


@dataclass
class Modelled:
    """What the model knows of one lease id."""

    owner: str
    stamp: Stamp
    num_tokens: int
    deadline_s: float | None
    place: Place = Place.WAITING
    replica_id: str = ""
    granted_s: float = 0.0
    sent_s: float = 0.0
    num_ends: int = 0


class DispatcherMachine(RuleBasedStateMachine):
    """Plays the routers, the replicas and the clock."""

    @initialize(policy=policies, max_waiting=st.sampled_from([3, 1000]))
    def start(self, policy: ScorePolicy, max_waiting: int) -> None:
        self.bounds = AdmissionBounds(max_waiting=max_waiting)
        self.dispatcher = Dispatcher(
            policy, self.bounds, claim_timeout_s=CLAIM_TIMEOUT_S, sent_timeout_s=SENT_TIMEOUT_S
        )
        self.leases: dict[str, Modelled] = {}
        self.open_replicas: set[str] = set()
        self.late_claims = False
        self.now_s = 1.7e9

    @rule(step_s=st.sampled_from([0.0, 0.3, 2.0, 15.0]))
    def time_passes(self, step_s: float) -> None:
        self.now_s += step_s

    @rule(
        owner=owners,
        priority=st.integers(-2, 2),
        num_tokens=st.sampled_from([10, 40, 90]),
        deadline_s=st.sampled_from([None, None, 3.0]),
        clock_error_s=st.sampled_from([0.0, -50.0]),
    )
    def enqueue(
        self, owner: str, priority: int, num_tokens: int, deadline_s: float | None, clock_error_s: float
    ) -> None:
        lease_id = f"lease-{len(self.leases):03}"
        ticket = make_ticket(
            lease_id, priority=priority, num_prompt_tokens=num_tokens, max_output_tokens=0, deadline_s=deadline_s
        )
        try:
            stamp = self.dispatcher.enqueue(ticket, owner, self.now_s + clock_error_s)
        except SchedulingError:
            self.leases[lease_id] = Modelled(owner, Stamp(priority, 0), num_tokens, None, Place.GONE, num_ends=1)
        else:
            self.leases[lease_id] = Modelled(owner, stamp, num_tokens, deadline_s)
        self.settle()

    @rule(number=old_or_new)
    def enqueue_again(self, number: int) -> None:
        if (lease_id := self.pick(number)) is None or self.leases[lease_id].place is Place.GONE:
            return
        lease = self.leases[lease_id]
        ticket = make_ticket(lease_id, priority=lease.stamp.priority, num_prompt_tokens=lease.num_tokens)
        assert self.dispatcher.enqueue(ticket, lease.owner, self.now_s) == lease.stamp

    @rule(number=old_or_new, end=st.sampled_from(["cancel", "release"]), times=st.integers(1, 2))
    def end(self, number: int, end: str, times: int) -> None:
        if (lease_id := self.pick(number)) is None:
            return
        for _ in range(times):
            self.dispatcher.cancel(lease_id) if end == "cancel" else self.dispatcher.release(lease_id)
        self.ends([lease_id])

    @rule(number=old_or_new)
    def send_as_granted(self, number: int) -> None:
        if (lease_id := self.pick(number)) is None or self.leases[lease_id].place not in (Place.GRANTED, Place.SENT):
            return
        self.dispatcher.sent(lease_id, self.leases[lease_id].replica_id, self.now_s)
        self.leases[lease_id].place, self.leases[lease_id].sent_s = Place.SENT, self.now_s

    @rule(number=old_or_new)
    def claim_as_sent(self, number: int) -> None:
        if (lease_id := self.pick(number)) is not None and self.leases[lease_id].place is Place.SENT:
            self.dispatcher.claim(lease_id, self.leases[lease_id].replica_id)
            self.leases[lease_id].place = Place.CLAIMED

    @rule(number=old_or_new)
    def claim_as_granted(self, number: int) -> None:
        if (lease_id := self.pick(number)) is not None and self.leases[lease_id].place is Place.GRANTED:
            self.dispatcher.claim(lease_id, self.leases[lease_id].replica_id)
            self.leases[lease_id].place = Place.CLAIMED

    @rule(number=old_or_new, replica_id=replicas)
    def claim_late(self, number: int, replica_id: str) -> None:
        lease_id = self.pick(number)
        if lease_id is None or self.leases[lease_id].place not in (Place.WAITING, Place.GRANTED):
            return
        self.dispatcher.claim(lease_id, replica_id)
        self.leases[lease_id].place, self.leases[lease_id].replica_id = Place.CLAIMED, replica_id
        self.late_claims = True

    @rule()
    def dispatch(self) -> None:
        self.settle()

    @rule()
    def expire(self) -> None:
        self.take_back_unclaimed()
        expired = self.dispatcher.expire(self.now_s)
        assert {event.lease_id for event in expired} == self.overdue()
        self.told(expired)

    @rule(replica_id=replicas, repeats=st.integers(1, 2))
    def register(self, replica_id: str, repeats: int) -> None:
        state = make_replica(replica_id, max_num_seqs=MAX_NUM_SEQS, kv_tokens=KV_TOKENS)
        holding = self.held_by(replica_id)
        for _ in range(repeats):
            self.dispatcher.register_replica(state, holding)
        for lease_id in holding:
            self.leases[lease_id].place = Place.CLAIMED
        self.open_replicas.add(replica_id)

    @rule(replica_id=replicas)
    def remove(self, replica_id: str) -> None:
        self.dispatcher.remove_replica(replica_id)
        held = self.held_by(replica_id)  # who was only granted may not know of it: that falls due, and waits again
        self.ends([lease_id for lease_id in held if self.leases[lease_id].place is not Place.GRANTED])
        self.open_replicas.discard(replica_id)

    @rule(replica_id=replicas)
    def quarantine(self, replica_id: str) -> None:
        self.dispatcher.quarantine(replica_id)
        self.open_replicas.discard(replica_id)

    @rule(owner=owners)
    def drop_owner(self, owner: str) -> None:
        self.dispatcher.drop_owner(owner)
        self.ends([lease_id for lease_id, lease in self.leases.items() if lease.owner == owner])

    @rule(policy=policies)
    def reconfigure(self, policy: ScorePolicy) -> None:
        self.dispatcher.reconfigure(policy, self.bounds)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        snapshot = self.dispatcher.snapshot(self.now_s)
        waiting = [view.lease_id for view in snapshot.waiting]
        assert sorted(waiting) == self.in_place(Place.WAITING)
        assert self.dispatcher.num_running == len(self.in_place(Place.GRANTED, Place.SENT, Place.CLAIMED))
        for replica in snapshot.replicas:
            assert sorted(replica.running) == sorted(self.held_by(replica.replica_id))
        assert all(lease.num_ends <= 1 for lease in self.leases.values())

    @invariant()
    def slots_and_tokens_are_never_overused(self) -> None:
        if self.late_claims:
            return  # what a replica runs, it runs: only grants must respect its room
        for replica in self.dispatcher.snapshot(self.now_s).replicas:
            assert len(replica.running) <= MAX_NUM_SEQS
            assert replica.reserved_tokens <= KV_TOKENS

    @invariant()
    def the_bound_on_waiting_holds(self) -> None:
        taken_back = self.bounds.max_waiting + len(REPLICAS) * MAX_NUM_SEQS
        assert self.dispatcher.num_waiting <= taken_back

    @invariant()
    def overtaking_stays_within_its_bound(self) -> None:
        assert self.dispatcher.overtaking.num_violations == 0

    def settle(self) -> None:
        """One dispatch, checked against the model."""
        self.take_back_unclaimed()
        early = self.bounds.max_waiting < 1000  # a full queue may have granted before its last newcomer came
        grants = self.dispatcher.dispatch(self.now_s)
        self.told(self.dispatcher.drain_events())
        for owner, grant in grants:
            lease = self.leases[grant.lease_id]
            assert (lease.place, lease.owner, lease.stamp) == (Place.WAITING, owner, grant.stamp)
            assert grant.replica_id in self.open_replicas
            assert early or not self.better_waiters(grant.lease_id)
            lease.place, lease.replica_id, lease.granted_s = Place.GRANTED, grant.replica_id, grant.granted_s
        self.head_has_no_room()

    def head_has_no_room(self) -> None:
        """Work conservation: after a dispatch the head waits only because nobody can take it."""
        in_order = sorted(self.in_place(Place.WAITING), key=self.position)
        if not in_order:
            return
        needed = self.leases[in_order[0]].num_tokens
        for replica_id in self.open_replicas:
            held = self.held_by(replica_id)
            used_tokens = sum(self.leases[lease_id].num_tokens for lease_id in held)
            assert len(held) >= MAX_NUM_SEQS or used_tokens + needed > KV_TOKENS

    def better_waiters(self, lease_id: str) -> list[str]:
        position = self.position(lease_id)
        return [other for other in self.in_place(Place.WAITING) if self.position(other) < position]

    def position(self, lease_id: str) -> tuple[float, float, str]:
        """The order, worked out anew: the key, then the arrival, then who came first."""
        stamp = self.leases[lease_id].stamp
        return (-self.dispatcher.policy.key(stamp), stamp.arrival_s, lease_id)

    def take_back_unclaimed(self) -> None:
        for lease in self.leases.values():
            if lease.place is Place.GRANTED and self.now_s >= lease.granted_s + CLAIM_TIMEOUT_S:
                lease.place = Place.WAITING
            if lease.place is Place.SENT and self.now_s >= lease.sent_s + SENT_TIMEOUT_S:
                lease.place = Place.GONE

    def overdue(self) -> set[str]:
        return {
            lease_id
            for lease_id, lease in self.leases.items()
            if lease.place is Place.WAITING
            and lease.deadline_s is not None
            and self.now_s >= lease.stamp.arrival_s + lease.deadline_s
        }

    def told(self, events: list[Any]) -> None:
        for event in events:
            lease = self.leases[event.lease_id]
            assert isinstance(event, Shed | Expired)
            assert (lease.place, lease.owner) == (Place.WAITING, event.owner)
            lease.num_ends += 1
            lease.place = Place.GONE

    def ends(self, lease_ids: list[str]) -> None:
        for lease_id in lease_ids:
            self.leases[lease_id].place = Place.GONE

    def in_place(self, *places: Place) -> list[str]:
        return [lease_id for lease_id, lease in self.leases.items() if lease.place in places]

    def held_by(self, replica_id: str) -> list[str]:
        held = self.in_place(Place.GRANTED, Place.SENT, Place.CLAIMED)
        return [lease_id for lease_id in held if self.leases[lease_id].replica_id == replica_id]

    def pick(self, number: int) -> str | None:
        """One of the leases so far, recent ones more often."""
        ids = list(self.leases)
        return ids[-1 - number] if number < len(ids) else None


TestDispatcherMachine = DispatcherMachine.TestCase
TestDispatcherMachine.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
