"""Tenants share by weight: whoever waits all the time gets its share, and who was idle is neither owed nor owing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.fairness import FairShares
from scheduling.queue import WaitingQueue
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_dispatcher, make_replica, make_ticket

costs = st.integers(min_value=1, max_value=250)  # below what is charged at most for an answer before it has ended


class Backlog:
    """Two tenants who always have a request waiting, served one at a time."""

    def __init__(self, *, weight_of_b: float = 1.0, policy: ScorePolicy | None = None) -> None:
        self.queue = WaitingQueue(policy or ScorePolicy())
        self.queue.set_tenant_weights({"b": weight_of_b})
        self.served = {"a": 0.0, "b": 0.0}
        self.now_s = 0.0
        self.number = 0

    def add(self, tenant: str, num_tokens: int, priority: float = 0) -> None:
        self.number += 1
        ticket = make_ticket(
            str(self.number), tenant=tenant, priority=priority, num_prompt_tokens=num_tokens, max_output_tokens=0
        )
        self.queue.push(ticket, Stamp(priority, self.now_s))

    def serve(self) -> str:
        granted = self.queue.pop()
        assert granted is not None
        self.served[granted.tenant] += granted.ticket.num_tokens
        self.queue.settle(granted, granted.ticket.num_tokens)
        self.now_s += granted.ticket.num_tokens / 1000
        return granted.tenant


@given(st.lists(st.tuples(costs, costs), min_size=1, max_size=120), st.sampled_from([0.5, 1.0, 3.0]))
def test_the_services_of_two_that_stay_backlogged_differ_by_a_constant(
    sizes: list[tuple[int, int]], weight: float
) -> None:
    backlog = Backlog(weight_of_b=weight)
    for of_a, of_b in sizes:
        backlog.add("a", of_a)
        backlog.add("b", of_b)
    largest = max(of_a for of_a, _ in sizes) + max(of_b for _, of_b in sizes) / weight
    left = {"a": len(sizes), "b": len(sizes)}
    while all(left.values()):
        left[backlog.serve()] -= 1
        assert abs(backlog.served["a"] - backlog.served["b"] / weight) <= largest


def test_a_deep_backlog_does_not_count_as_age_against_a_tenant_that_comes_later() -> None:
    backlog = Backlog()
    for _ in range(100):
        backlog.add("a", 100)
    for _ in range(20):
        backlog.serve()
    backlog.add("b", 100)
    assert "b" in {backlog.serve(), backlog.serve()}


def test_one_that_used_what_was_idle_is_not_behind_later() -> None:
    backlog = Backlog()
    for _ in range(50):
        backlog.add("a", 100)
        backlog.serve()
    for tenant in "abab":
        backlog.add(tenant, 100)
    assert sorted(backlog.serve() for _ in range(2)) == ["a", "b"]


def test_a_level_between_tenants_is_a_head_start_once() -> None:
    backlog = Backlog()
    for _ in range(200):
        backlog.add("a", 100, priority=0)
        backlog.add("b", 100, priority=1)
    order = [backlog.serve() for _ in range(300)]
    head_start = order.index("a")
    assert head_start == pytest.approx(10 * 1000 / 100, abs=2), "ten seconds at the speed that tags have at first"
    assert order[head_start:].count("b") == pytest.approx(100, abs=2)


def test_what_a_request_did_not_use_is_given_back_and_what_it_used_beyond_is_charged() -> None:
    shares = FairShares()
    shares.begin_waiting("a")
    shares.charge("a", 300)
    shares.charge("a", 100 - 300)
    assert shares.tag("a") == 100


def test_an_attempt_that_never_ran_costs_nothing() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1))
    served = []
    for number, tenant in enumerate("aab"):
        dispatcher.enqueue(make_ticket(f"{tenant}{number}", tenant=tenant, num_prompt_tokens=100), "ingress", number)
    for _ in range(3):
        [(_, grant)] = dispatcher.dispatch(10)
        served.append(grant.lease_id)
        dispatcher.fail(grant.lease_id)
    assert served == ["a0", "a1", "b2"], "nobody was served, so arrival decides"


def test_one_tenant_alone_is_never_penalised() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=1))
    for number in range(20):
        dispatcher.enqueue(make_ticket(str(number), num_prompt_tokens=100), "ingress", 0)
        for _, grant in dispatcher.dispatch(0):
            assert grant.stamp.penalty_s == 0
            dispatcher.release(grant.lease_id, num_served=100)


def test_a_tenant_ahead_of_the_others_carries_its_lead_as_a_penalty() -> None:
    dispatcher = make_dispatcher(make_replica(max_num_seqs=64))
    for number in range(3):
        dispatcher.enqueue(make_ticket(f"a{number}", tenant="a", priority=1, num_prompt_tokens=500), "ingress", 0)
    dispatcher.enqueue(make_ticket("b", tenant="b", num_prompt_tokens=500), "ingress", 0)
    penalties = {grant.lease_id: grant.stamp.penalty_s for _, grant in dispatcher.dispatch(0)}
    assert penalties["a0"] == 0
    assert 0 < penalties["a1"] < penalties["a2"]


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_that_shares_nothing_is_refused_by_name(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weight of tenant 'x': expected a finite number above 0, got"):
        FairShares({"x": weight})


def test_weights_change_while_requests_wait() -> None:
    dispatcher = Dispatcher(ScorePolicy(), AdmissionBounds())
    dispatcher.register_replica(make_replica(max_num_seqs=1))
    dispatcher.reconfigure(ScorePolicy(), AdmissionBounds(), {"a": 3.0})
    order = []
    for number in range(40):
        dispatcher.enqueue(make_ticket(f"{number}a", tenant="a", num_prompt_tokens=100), "ingress", 0)
        dispatcher.enqueue(make_ticket(f"{number}b", tenant="b", num_prompt_tokens=100), "ingress", 0)
    for _ in range(40):
        [(_, grant)] = dispatcher.dispatch(1)
        order.append(grant.lease_id[-1])
        dispatcher.release(grant.lease_id, num_served=110)
    assert order.count("a") == pytest.approx(30, abs=1)
