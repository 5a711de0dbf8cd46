"""Engines that make room under any sequence of events, against a model: parked, resumed or moved, never lost."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.events import Event, Moved, Resumed
from scheduling.request import Grant, TokenNeed
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_replica, make_ticket

REPLICAS = ("replica-1", "replica-2")
OWNERS = ("ingress-1", "ingress-2")
TENANTS = ("heavy", "light")
WEIGHTS = {"heavy": 3.0, "light": 1.0}
MAX_NUM_SEQS = 2
PARKED_LIMIT = 2
KV_TOKENS = 100
MARGIN_LEVELS = 2.0
CLAIM_TIMEOUT_S = 1.0
SENT_TIMEOUT_S = 10.0

replicas = st.sampled_from(REPLICAS)
policies = st.sampled_from([ScorePolicy(), ScorePolicy(2, 0.1), ScorePolicy(0, 1), ScorePolicy(1, 0)])
old_or_new = st.integers(min_value=0, max_value=20)


class Place(enum.Enum):
    """As the queue should see it. MOVING: its replica is to give it up."""

    WAITING = "waiting"
    GRANTED = "granted"
    SENT = "sent"
    RUNNING = "running"
    PARKED = "parked"
    MOVING = "moving"
    GONE = "gone"


RUNS = (Place.GRANTED, Place.SENT, Place.RUNNING)
HELD = (*RUNS, Place.PARKED, Place.MOVING)


@dataclass
class Modelled:
    """What the model knows of one lease id. is_in_batch: its engine runs it, which may be later than the queue says."""

    owner: str
    tenant: str
    stamp: Stamp
    num_tokens: int
    place: Place = Place.WAITING
    replica_id: str = ""
    due_s: float = 0.0
    is_in_batch: bool = False


class PreemptionMachine(RuleBasedStateMachine):
    """Plays the ingresses, the clock and the engines, which park their lowest keys when they hold too many."""

    @initialize(policy=policies)
    def start(self, policy: ScorePolicy) -> None:
        self.bounds = AdmissionBounds(max_waiting=1000)
        self.dispatcher = Dispatcher(
            policy, self.bounds, claim_timeout_s=CLAIM_TIMEOUT_S, sent_timeout_s=SENT_TIMEOUT_S
        )
        self.dispatcher.reconfigure(policy, self.bounds, WEIGHTS)
        self.leases: dict[str, Modelled] = {}
        self.incarnations = dict.fromkeys(REPLICAS, 1)
        self.open_replicas: set[str] = set()
        self.unheard: list[Resumed | Moved] = []
        self.now_s = 1.7e9
        for replica_id in REPLICAS:
            self.register(replica_id)

    def teardown(self) -> None:
        """Nobody waits for ever: as runners end, each of the others is granted, resumed or moved."""
        if not hasattr(self, "dispatcher"):
            return
        for replica_id in REPLICAS:
            self.register(replica_id)
        for _ in range(3 * len(self.leases)):
            self.settle()
            self.hear(num_events=len(self.unheard))
            for lease_id in self.in_place(*RUNS):
                self.finish(lease_id)
        assert self.in_place(Place.WAITING, *HELD) == []

    @rule(step_s=st.sampled_from([0.0, 0.3, 2.0, 15.0]))
    def time_passes(self, step_s: float) -> None:
        self.now_s += step_s

    @rule(
        owner=st.sampled_from(OWNERS),
        tenant=st.sampled_from(TENANTS),
        priorities=st.lists(st.integers(-10, 10), min_size=1, max_size=5),
        num_tokens=st.sampled_from([10, 10, 30, 60]),
        arrives=st.booleans(),
    )
    def enqueue(self, owner: str, tenant: str, priorities: list[int], num_tokens: int, arrives: bool) -> None:
        for priority in priorities:
            self.ask(Modelled(owner, tenant, Stamp(priority, self.now_s), num_tokens), is_again=False)
        self.settle()
        if arrives:
            self.all_reach_their_engines()

    @rule()
    def all_reach_their_engines(self) -> None:
        for lease_id in self.in_place(Place.GRANTED, Place.SENT):
            self.reach(lease_id)

    @rule(number=old_or_new)
    def send(self, number: int) -> None:
        if (lease_id := self.pick(number, Place.GRANTED)) is None:
            return
        lease = self.leases[lease_id]
        self.dispatcher.sent(lease_id, lease.replica_id, self.now_s)
        lease.place, lease.due_s = Place.SENT, self.now_s + SENT_TIMEOUT_S

    @rule(number=old_or_new)
    def reach_the_engine(self, number: int) -> None:
        if (lease_id := self.pick(number, Place.GRANTED, Place.SENT)) is not None:
            self.reach(lease_id)

    @rule(number=old_or_new, num_served=st.sampled_from([None, 0, 30]))
    def release(self, number: int, num_served: int | None) -> None:
        if (lease_id := self.pick(number, *Place)) is not None:
            self.finish(lease_id, num_served)

    @rule(number=old_or_new)
    def say_again_that_it_gave_way(self, number: int) -> None:
        if (lease_id := self.pick(number, Place.PARKED, Place.MOVING)) is not None:
            self.dispatcher.park(lease_id, self.leases[lease_id].replica_id)

    @rule(number=old_or_new)
    def say_again_that_it_runs(self, number: int) -> None:
        if (lease_id := self.pick(number, Place.RUNNING, Place.PARKED, Place.MOVING)) is not None:
            self.dispatcher.claim(lease_id, self.leases[lease_id].replica_id)

    @rule(num_events=st.integers(1, 3))
    def hear(self, num_events: int) -> None:
        """Engines act on what the queue has told them."""
        heard, self.unheard = self.unheard[:num_events], self.unheard[num_events:]
        for event in heard:
            lease = self.leases[event.lease_id]
            if isinstance(event, Resumed) and lease.place is Place.RUNNING:
                lease.is_in_batch = True
                self.make_room(event.replica_id)
            elif isinstance(event, Moved) and lease.place is Place.MOVING:
                self.finish(event.lease_id)
                self.ask(lease, is_again=True)

    @rule()
    def dispatch(self) -> None:
        self.settle()

    @rule(
        replica_id=replicas, fate=st.sampled_from(["begins anew", "is removed", "is quarantined", *["registers"] * 3])
    )
    def something_becomes_of(self, replica_id: str, fate: str) -> None:
        match fate:
            case "begins anew":
                self.begin_anew(replica_id)
            case "is removed":
                self.remove(replica_id)
            case "is quarantined":
                self.dispatcher.quarantine(replica_id)
                self.open_replicas.discard(replica_id)
            case _:
                self.register(replica_id)

    def begin_anew(self, replica_id: str) -> None:
        """What it ran is over; what was on its way to it will come."""
        lost = self.on(replica_id, Place.RUNNING, Place.PARKED, Place.MOVING)
        self.gone(lost)
        self.incarnations[replica_id] += 1
        self.register(replica_id)
        self.ask_again(lost)

    def remove(self, replica_id: str) -> None:
        """The replica is dead: nobody there hears that those it had parked should move."""
        lost, parked = self.on(replica_id, *HELD), self.on(replica_id, Place.PARKED)
        before = self.dispatcher.drain_events()
        assert sorted(self.dispatcher.remove_replica(replica_id)) == lost
        moved = [event.lease_id for event in self.dispatcher.drain_events() if isinstance(event, Moved)]
        assert (before, sorted(moved)) == ([], parked)
        self.gone(lost)
        self.open_replicas.discard(replica_id)
        self.ask_again(lost)

    @rule(owner=st.sampled_from(OWNERS))
    def drop_owner(self, owner: str) -> None:
        self.dispatcher.drop_owner(owner)
        self.gone([lease_id for lease_id, lease in self.leases.items() if lease.owner == owner])

    @rule(policy=policies, heavy=st.sampled_from([1.0, 3.0]))
    def reconfigure(self, policy: ScorePolicy, heavy: float) -> None:
        self.dispatcher.reconfigure(policy, self.bounds, {"heavy": heavy})

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        snapshot = self.dispatcher.snapshot(self.now_s)
        assert sorted(view.lease_id for view in snapshot.waiting) == self.in_place(Place.WAITING, Place.PARKED)
        assert self.dispatcher.num_running == len(self.in_place(*HELD))
        for replica in snapshot.replicas:
            assert sorted(replica.running) == self.on(replica.replica_id, *HELD)
            assert replica.reserved_tokens == self.num_tokens(self.on(replica.replica_id, *RUNS))

    @invariant()
    def no_replica_holds_more_than_it_may(self) -> None:
        for replica_id in REPLICAS:
            assert len(self.on(replica_id, *HELD)) <= MAX_NUM_SEQS + PARKED_LIMIT

    @invariant()
    def more_run_than_there_are_slots_only_while_news_is_on_its_way(self) -> None:
        for replica_id in REPLICAS:
            running = self.on(replica_id, *RUNS)
            num_on_their_way = sum(not self.leases[lease_id].is_in_batch for lease_id in running)
            assert len(running) <= MAX_NUM_SEQS + num_on_their_way

    @invariant()
    def overtaking_stays_within_its_bound(self) -> None:
        assert self.dispatcher.overtaking.num_violations == 0

    def settle(self) -> None:
        """One dispatch, checked against the model."""
        self.take_back_unclaimed()
        before = {replica_id: len(self.on(replica_id, *RUNS)) for replica_id in REPLICAS}
        grants = self.dispatcher.dispatch(self.now_s)
        events = self.dispatcher.drain_events()
        for event in events:
            self.told(event)
        for owner, grant in grants:
            self.granted(owner, grant)
        self.nobody_better_waits({grant.lease_id for _, grant in grants} | {event.lease_id for event in events})
        for replica_id in REPLICAS:
            on_it = [grant for _, grant in grants if grant.replica_id == replica_id]
            self.whoever_displaces_outranks_a_victim_of_its_own(replica_id, before[replica_id], on_it)
            self.what_was_added_with_room_fits(replica_id, before[replica_id])
        self.head_has_no_room()

    def told(self, event: Event) -> None:
        assert isinstance(event, Resumed | Moved)
        lease = self.leases[event.lease_id]
        assert (lease.place, lease.replica_id) == (Place.PARKED, event.replica_id)
        lease.place = Place.RUNNING if isinstance(event, Resumed) else Place.MOVING
        if isinstance(event, Resumed):
            assert event.stamp == lease.stamp
        self.unheard.append(event)

    def granted(self, owner: str, grant: Grant) -> None:
        lease = self.leases[grant.lease_id]
        assert (lease.place, lease.owner) == (Place.WAITING, owner)
        assert (lease.stamp.priority, lease.stamp.arrival_s) == (grant.stamp.priority, grant.stamp.arrival_s)
        assert grant.replica_id in self.open_replicas
        lease.place, lease.replica_id, lease.stamp = Place.GRANTED, grant.replica_id, grant.stamp
        lease.due_s = self.now_s + CLAIM_TIMEOUT_S

    def nobody_better_waits(self, chosen: set[str]) -> None:
        """Of one tenant, whoever was chosen came before all that wait still, parked ones included."""
        for waiting in self.in_place(Place.WAITING, Place.PARKED):
            tenant = self.leases[waiting].tenant
            rivals = [lease_id for lease_id in chosen if self.leases[lease_id].tenant == tenant]
            assert all(self.position(lease_id) < self.position(waiting) for lease_id in rivals)

    def whoever_displaces_outranks_a_victim_of_its_own(
        self, replica_id: str, num_before: int, grants: list[Grant]
    ) -> None:
        num_displacing = max(0, len(self.on(replica_id, *RUNS)) - max(MAX_NUM_SEQS, num_before))
        later = {grant.lease_id for grant in grants[len(grants) - num_displacing :]}
        running = [lease_id for lease_id in self.on(replica_id, *RUNS) if lease_id not in later]
        policy = self.dispatcher.policy
        for grant in grants[len(grants) - num_displacing :]:
            victim_key = sorted(map(self.key, running))[len(running) - MAX_NUM_SEQS]
            assert policy.key(grant.stamp) > victim_key + policy.margin(MARGIN_LEVELS)
            running.append(grant.lease_id)

    def what_was_added_with_room_fits(self, replica_id: str, num_before: int) -> None:
        running = self.on(replica_id, *RUNS)
        if num_before < len(running) <= MAX_NUM_SEQS:
            assert self.num_tokens(running) <= KV_TOKENS

    def head_has_no_room(self) -> None:
        """Work conservation: after a dispatch the head, parked or not, waits only because nobody can take it."""
        waiting = self.dispatcher.snapshot(self.now_s).waiting
        if not waiting:
            return
        needed = self.leases[waiting[0].lease_id].num_tokens
        for replica_id in self.open_replicas:
            running = self.on(replica_id, *RUNS)
            assert len(running) >= MAX_NUM_SEQS or self.num_tokens(running) + needed > KV_TOKENS

    def register(self, replica_id: str) -> None:
        """It says anew what it runs."""
        claimed = self.on(replica_id, Place.RUNNING, Place.PARKED, Place.MOVING)
        parked = self.on(replica_id, Place.PARKED, Place.MOVING)
        state = make_replica(
            replica_id,
            max_num_seqs=MAX_NUM_SEQS,
            kv_tokens=KV_TOKENS,
            incarnation=self.incarnations[replica_id],
            parked_limit=PARKED_LIMIT,
            preemption_margin_levels=MARGIN_LEVELS,
        )
        self.dispatcher.register_replica(state, claimed, parked)
        self.open_replicas.add(replica_id)

    def reach(self, lease_id: str) -> None:
        """Its engine runs it from now on, and parks another where it must."""
        lease = self.leases[lease_id]
        self.dispatcher.claim(lease_id, lease.replica_id)
        lease.place, lease.is_in_batch = Place.RUNNING, True
        self.make_room(lease.replica_id)

    def ask(self, asked: Modelled, *, is_again: bool) -> None:
        lease_id = f"lease-{len(self.leases):03}"
        ticket = make_ticket(
            lease_id,
            priority=asked.stamp.priority,
            num_prompt_tokens=asked.num_tokens,
            max_output_tokens=0,
            tenant=asked.tenant,
            stamp=asked.stamp if is_again else None,
        )
        assert ticket.need == TokenNeed(asked.num_tokens, asked.num_tokens)
        stamp = self.dispatcher.enqueue(ticket, asked.owner, self.now_s)
        self.leases[lease_id] = Modelled(asked.owner, asked.tenant, stamp, asked.num_tokens)

    def ask_again(self, lost: list[str]) -> None:
        """Their owners ask for another attempt, which keeps the stamp."""
        for lease_id in lost:
            self.ask(self.leases[lease_id], is_again=True)

    def make_room(self, replica_id: str) -> None:
        """The engine keeps as many as it has slots, and says who gave way."""
        in_batch = [lease_id for lease_id in self.on(replica_id, *RUNS) if self.leases[lease_id].is_in_batch]
        for lease_id in sorted(in_batch, key=self.key)[: max(0, len(in_batch) - MAX_NUM_SEQS)]:
            self.dispatcher.park(lease_id, replica_id)
            self.leases[lease_id].place, self.leases[lease_id].is_in_batch = Place.PARKED, False

    def finish(self, lease_id: str, num_served: int | None = None) -> None:
        self.dispatcher.release(lease_id, num_served)
        self.gone([lease_id])

    def gone(self, lease_ids: list[str]) -> None:
        for lease_id in lease_ids:
            self.leases[lease_id].place, self.leases[lease_id].is_in_batch = Place.GONE, False

    def take_back_unclaimed(self) -> None:
        for lease in self.leases.values():
            if lease.place is Place.GRANTED and self.now_s >= lease.due_s:
                lease.place = Place.WAITING
            if lease.place is Place.SENT and self.now_s >= lease.due_s:
                lease.place = Place.GONE

    def key(self, lease_id: str) -> float:
        return self.dispatcher.policy.key(self.leases[lease_id].stamp)

    def position(self, lease_id: str) -> tuple[float, float, str]:
        """The order within a tenant, worked out anew: the key without penalties, the arrival, who asked first."""
        stamp = self.leases[lease_id].stamp
        return (-self.dispatcher.policy.line_key(stamp), stamp.arrival_s, lease_id)

    def num_tokens(self, lease_ids: list[str]) -> int:
        return sum(self.leases[lease_id].num_tokens for lease_id in lease_ids)

    def in_place(self, *places: Place) -> list[str]:
        return [lease_id for lease_id, lease in self.leases.items() if lease.place in places]

    def on(self, replica_id: str, *places: Place) -> list[str]:
        return [lease_id for lease_id in self.in_place(*places) if self.leases[lease_id].replica_id == replica_id]

    def pick(self, number: int, *places: Place) -> str | None:
        """One of those in these places, recent ones more often."""
        ids = self.in_place(*places)
        return ids[-1 - number % len(ids)] if ids else None


TestPreemptionMachine = PreemptionMachine.TestCase
TestPreemptionMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
