"""Engines that make room under any sequence of events, against a model: parked, resumed or moved, never lost."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scheduling.events import Event, Moved, Resumed
from scheduling.request import Grant
from scheduling.score import ScorePolicy, Stamp
from tests.scheduling.preempting_cluster import (
    CLAIM_TIMEOUT_S,
    HELD,
    KV_TOKENS,
    MARGIN_LEVELS,
    MAX_NUM_SEQS,
    OWNERS,
    PARKED_LIMIT,
    REPLICAS,
    RUNS,
    SENT_TIMEOUT_S,
    TENANTS,
    Modelled,
    Place,
    PreemptingCluster,
)

replicas = st.sampled_from(REPLICAS)
policies = st.sampled_from([ScorePolicy(), ScorePolicy(2, 0.1), ScorePolicy(0, 1), ScorePolicy(1, 0)])
old_or_new = st.integers(min_value=0, max_value=20)


class PreemptionMachine(PreemptingCluster, RuleBasedStateMachine):
    """Plays the ingresses, the clock and the engines, which park their lowest keys when they hold too many."""

    @initialize(policy=policies)
    def start(self, policy: ScorePolicy) -> None:
        self.begin(policy)

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
            self.now_s += CLAIM_TIMEOUT_S  # a place that is kept for one that has ended is kept for no longer
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

    @rule(replica_id=replicas)
    def run_out_of_blocks(self, replica_id: str) -> None:
        """A decode needs a block: the lowest gives way, though there are slots."""
        in_batch = [lease_id for lease_id in self.on(replica_id, *RUNS) if self.leases[lease_id].is_in_batch]
        if in_batch:
            self.give_way(min(in_batch, key=self.key), replica_id)

    @rule(number=old_or_new)
    def say_again_that_it_gave_way(self, number: int) -> None:
        if (lease_id := self.pick(number, Place.PARKED, Place.MOVING)) is not None:
            lease = self.leases[lease_id]
            self.dispatcher.park(lease_id, lease.replica_id)
            told_again = [Moved(lease.replica_id, lease_id)] if lease.place is Place.MOVING else []
            assert self.dispatcher.drain_events() == told_again

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
        """The replica is dead: nobody there hears that those it had parked should move. Who was only granted a place
        there may not know of it: that falls due, and waits again."""
        lost = self.on(replica_id, *(place for place in HELD if place is not Place.GRANTED))
        parked = self.on(replica_id, Place.PARKED, Place.MOVING)
        before = self.dispatcher.drain_events()
        self.dispatcher.remove_replica(replica_id)
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
            kept = self.kept_on(replica.replica_id)
            assert sorted(place for place in replica.running if ">" not in place) == self.on(replica.replica_id, *HELD)
            assert replica.reserved_tokens == self.num_tokens([*self.on(replica.replica_id, *RUNS), *kept])

    @invariant()
    def a_place_is_kept_only_for_one_that_moves(self) -> None:
        for replica_id in REPLICAS:
            for lease_id in self.kept_on(replica_id):
                assert self.leases[lease_id].place in (Place.MOVING, Place.GONE)

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
        grants = self.dispatcher.dispatch(self.now_s)
        events = self.dispatcher.drain_events()
        for event in events:
            self.told(event)
        for owner, grant in grants:
            self.granted(owner, grant)
        self.nobody_better_waits({grant.lease_id for _, grant in grants} | {event.lease_id for event in events})
        for replica_id in REPLICAS:
            on_it = [grant for _, grant in grants if grant.replica_id == replica_id]
            self.whoever_finds_no_room_outranks_victims_of_its_own(replica_id, on_it)
            resumed = [event for event in events if isinstance(event, Resumed) and event.replica_id == replica_id]
            self.whoever_is_resumed_has_room(replica_id, {grant.lease_id for grant in on_it} if resumed else None)
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

    def whoever_finds_no_room_outranks_victims_of_its_own(self, replica_id: str, grants: list[Grant]) -> None:
        """From the last grant back: there was room for it beside all before it, or enough that it outranks."""
        policy, running = self.dispatcher.policy, [*self.on(replica_id, *RUNS), *self.kept_on(replica_id)]
        for grant in reversed(grants):
            running.remove(grant.lease_id)
            staying = sorted(running, key=self.key)
            while staying and not self.fit([*staying, grant.lease_id]):
                victim_key = self.key(staying.pop(0))
                assert policy.key(grant.stamp) > victim_key + policy.margin(MARGIN_LEVELS)
            assert self.fit([*staying, grant.lease_id])

    def whoever_is_resumed_has_room(self, replica_id: str, granted: set[str] | None) -> None:
        """granted: there in the same dispatch; None where nobody was resumed."""
        if granted is not None:
            assert self.fit([lease_id for lease_id in self.on(replica_id, *RUNS) if lease_id not in granted])

    def fit(self, running: list[str]) -> bool:
        return len(running) <= MAX_NUM_SEQS and self.num_tokens(running) <= KV_TOKENS

    def kept_on(self, replica_id: str) -> list[str]:
        """For whom places are kept there: the lease ids under which they were told to move."""
        replicas = self.dispatcher.snapshot(self.now_s).replicas
        places = [place for replica in replicas if replica.replica_id == replica_id for place in replica.running]
        return [place.partition(">")[0] for place in places if ">" in place]

    def head_has_no_room(self) -> None:
        """Work conservation: after a dispatch the head, parked or not, waits only because nobody can take it."""
        waiting = self.dispatcher.snapshot(self.now_s).waiting
        if not waiting:
            return
        head = self.leases[waiting[0].lease_id]
        for replica_id in self.open_replicas:
            running, kept = self.on(replica_id, *RUNS), self.kept_on(replica_id)
            is_at_home = (head.place, head.replica_id) == (Place.PARKED, replica_id)
            num_held = len(self.on(replica_id, *HELD)) + len(kept)
            holds_all_it_may = not is_at_home and num_held >= MAX_NUM_SEQS + PARKED_LIMIT
            has_slot = len(running) + len(kept) < MAX_NUM_SEQS and not holds_all_it_may
            assert not has_slot or self.num_tokens([*running, *kept]) + head.num_tokens > KV_TOKENS


TestPreemptionMachine = PreemptionMachine.TestCase
TestPreemptionMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
