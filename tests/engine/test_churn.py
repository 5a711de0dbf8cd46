"""However requests arrive, preemption wastes little: useful tokens a second stay close to a run that never preempts."""

from __future__ import annotations

import pytest

from scheduling.churn_budget import BURST_TOKENS, SHARE
from tests.engine.churning import Arrival, alternating, play_arrivals, rising, saturating

LEAST_SHARE = 0.9
ADVERSARIES = {
    "each outranks all before it, just before their long prompts have paid off": rising(
        80, 0.6, num_prompt_tokens=900, max_tokens=60
    ),
    "each outranks all before it, faster than they can be served": rising(100, 0.05),
    "bulk and urgent in turn": alternating(100, 0.1),
    "equals whose answers outgrow the pool": saturating(40),
}


@pytest.mark.parametrize("preemption", ["auto", "swap", "recompute"])
@pytest.mark.parametrize("arrivals", ADVERSARIES.values(), ids=ADVERSARIES)
def test_throughput_stays_close_to_that_without_preemption(arrivals: list[Arrival], preemption: str) -> None:
    settings = {"prefix_caching": False, "parked_limit": 1000}
    never = play_arrivals(arrivals, preemption="off", **settings)
    played = play_arrivals(arrivals, preemption=preemption, **settings)
    assert (never.stats.num_preemptions, played.num_useful_tokens) == (0, never.num_useful_tokens)
    assert played.stats.num_preemptions > 0
    assert played.tokens_per_s > LEAST_SHARE * never.tokens_per_s


@pytest.mark.parametrize("arrivals", ADVERSARIES.values(), ids=ADVERSARIES)
def test_what_is_computed_again_is_bounded_by_useful_work(arrivals: list[Arrival]) -> None:
    played = play_arrivals(arrivals, preemption="recompute", prefix_caching=False, parked_limit=1000)
    pool_tokens = 2048
    bound = SHARE * played.num_useful_tokens + BURST_TOKENS + 2 * pool_tokens  # all victims, and all who run, hold it
    assert 0 < played.stats.num_recomputed_tokens <= bound


def test_an_urgent_request_starts_sooner_than_without_preemption() -> None:
    arrivals = alternating(40, 0.1)
    never, played = (play_arrivals(arrivals, preemption=preemption) for preemption in ("off", "auto"))
    urgent = [arrival for arrival in arrivals if arrival.request.stamp.priority]
    waits = [
        sum(run.first_token_s[arrival.request.lease_id] - arrival.at_s for arrival in urgent) for run in (played, never)
    ]
    assert waits[0] < 0.8 * waits[1]
