"""Whose turn it is: the heaps choose what comparing all tenants would."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scheduling.fairness import FairShares
from scheduling.score import ScorePolicy, Stamp
from scheduling.tenant_turns import DEFAULT_TAG_SPEED, TenantTurns

TENANTS = ("heavy", "light", "other")

tenants = st.sampled_from(TENANTS)
stamps = st.builds(Stamp, st.integers(-2, 2), st.integers(0, 50))
policies = st.sampled_from([ScorePolicy(), ScorePolicy(0, 1), ScorePolicy(1, 0), ScorePolicy(name="fcfs")])
weights = st.fixed_dictionaries({}, optional=dict.fromkeys(TENANTS, st.sampled_from([0.5, 1.0, 3.0])))


class TenantTurnsMachine(RuleBasedStateMachine):
    """Works each tenant's tag out from what it was charged, and compares all heads for each turn."""

    @initialize(policy=policies)
    def start(self, policy: ScorePolicy) -> None:
        self.turns = TenantTurns(policy, FairShares())
        self.policy = policy
        self.heads: dict[str, tuple[Stamp, int]] = {}
        self.weights: dict[str, float] = {}
        self.tags: dict[str, float] = {}
        self.virtual = 0.0
        self.speed = DEFAULT_TAG_SPEED
        self.num_heads = 0

    @rule(tenant=tenants, stamp=stamps)
    def waits(self, tenant: str, stamp: Stamp) -> None:
        self.num_heads += 1
        self.turns.set_head(tenant, stamp, self.num_heads)
        if tenant not in self.heads:
            self.tags[tenant] = max(self.tag(tenant), self.virtual)
        self.heads[tenant] = (stamp, self.num_heads)

    @rule(tenant=tenants)
    def waits_no_more(self, tenant: str) -> None:
        self.turns.remove(tenant)
        if self.heads.pop(tenant, None) is not None:
            self.forget_unless_ahead(tenant)

    @rule(num_tokens=st.sampled_from([10, 500, 2_000]), is_head_gone=st.booleans())
    def the_first_is_granted(self, num_tokens: int, is_head_gone: bool) -> None:
        self.turns.pass_time()
        if self.heads:
            self.virtual = max(self.virtual, min(self.tags[tenant] for tenant in self.heads))
            tenant = self.first()
            assert tenant is not None
            if is_head_gone:
                self.waits_no_more(tenant)
            self.charge(tenant, num_tokens)

    @rule(tenant=tenants, num_tokens=st.sampled_from([-300, 300]))
    def charge(self, tenant: str, num_tokens: int) -> None:
        """What it was charged was too much, or too little."""
        self.turns.charge(tenant, num_tokens)
        self.tags[tenant] = self.tag(tenant) + num_tokens / self.weights.get(tenant, 1.0)
        if tenant not in self.heads:
            self.forget_unless_ahead(tenant)

    @rule(given=weights)
    def weigh(self, given: dict[str, float]) -> None:
        self.turns.set_weights(given)
        self.weights = given

    @rule(policy=policies)
    def reconfigure(self, policy: ScorePolicy) -> None:
        self.turns.set_policy(policy)
        self.policy = policy

    @rule(tokens_per_s=st.sampled_from([100.0, 1_000.0, 1_100.0, 5_000.0]))
    def measure(self, tokens_per_s: float) -> None:
        self.turns.set_rate(tokens_per_s)
        speed = tokens_per_s / (sum(self.weights.get(tenant, 1.0) for tenant in self.heads) or 1.0)
        if abs(speed - self.speed) > self.speed / 4:
            self.speed = speed

    @invariant()
    def the_first_is_the_best_of_all(self) -> None:
        assert self.turns.first() == self.first()

    @invariant()
    def those_who_wait_are_known_by_their_heads(self) -> None:
        assert {tenant: self.turns.head(tenant) for tenant in self.turns} == {
            tenant: stamp for tenant, (stamp, _) in self.heads.items()
        }
        assert len(self.turns) == len(self.heads)

    @invariant()
    def tags_and_leads_are_service_by_weight(self) -> None:
        for tenant in self.heads:
            assert self.turns.tag_s(tenant) == pytest.approx(self.tags[tenant] / self.speed)
            lead = max(0.0, self.tags[tenant] - self.virtual)
            assert self.turns.lead_s(tenant) == pytest.approx(lead / self.speed)

    def tag(self, tenant: str) -> float:
        return self.tags.get(tenant, self.virtual)

    def forget_unless_ahead(self, tenant: str) -> None:
        if self.tag(tenant) <= self.virtual:
            self.tags.pop(tenant, None)

    def first(self) -> str | None:
        return min(self.heads, key=self.position, default=None)

    def position(self, tenant: str) -> tuple[float, float, float, int]:
        stamp, seq = self.heads[tenant]
        tag = self.tags[tenant]
        return (-self.policy.turn_key(stamp, tag / self.speed), tag, stamp.arrival_s, seq)


TestTenantTurnsMachine = TenantTurnsMachine.TestCase
TestTenantTurnsMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def turns_of(**heads: Stamp) -> TenantTurns:
    turns = TenantTurns(ScorePolicy(alpha=1, beta=0.1), FairShares())
    for number, (tenant, stamp) in enumerate(heads.items()):
        turns.set_head(tenant, stamp, number)
    return turns


def test_nobody_waiting_is_nobodys_turn() -> None:
    assert turns_of().first() is None


def test_equals_take_turns_by_what_they_were_served() -> None:
    turns = turns_of(early=Stamp(0, 0), late=Stamp(0, 5))
    assert turns.first() == "early"
    turns.charge("early", 10)
    assert turns.first() == "late"
    turns.charge("late", 20)
    assert turns.first() == "early"


@pytest.mark.parametrize(("num_tokens", "first"), [(9_900, "urgent"), (10_100, "standard")])
def test_a_level_of_priority_is_a_head_start_of_ten_seconds_of_service(num_tokens: int, first: str) -> None:
    turns = turns_of(urgent=Stamp(1, 0), standard=Stamp(0, 0))
    turns.charge("urgent", num_tokens)
    assert turns.first() == first


def test_a_weight_of_three_is_charged_a_third() -> None:
    turns = turns_of(heavy=Stamp(0, 0), light=Stamp(0, 0))
    turns.set_weights({"heavy": 3.0})
    turns.charge("heavy", 2_900)
    turns.charge("light", 1_000)
    assert turns.first() == "heavy"
    assert turns.service_s("heavy", 3_000) == pytest.approx(turns.service_s("light", 1_000))
