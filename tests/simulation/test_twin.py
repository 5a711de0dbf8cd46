"""The service as a whole on virtual time: small cases by hand, and what holds for every case."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.admission import AdmissionBounds
from scheduling.score import ScorePolicy
from simulation.engine_model import EngineModel, ServiceOverheads
from simulation.lengths import FixedLengths, Size
from simulation.outcome import Ended, Outcome
from simulation.scenario import Clients, Scenario
from simulation.traffic import ClosedClients
from simulation.workload import Arrival, ClassShare, ClosedLoop, Mix
from tests.simulation.factories import first
from tests.simulation.scenarios import arrival, make_scenario, make_shape, play

ONE_SLOT = make_shape(max_num_seqs=1, preemption="off")
OVERHEADS = ServiceOverheads(to_queue_s=0.1, to_engine_s=0.2, to_client_s=0.4, release_s=0.8)


def test_a_request_meets_each_overhead_once() -> None:
    (ended,) = play(make_scenario(overheads=OVERHEADS), [arrival(at_s=5.0, num_prompt_tokens=10, num_output_tokens=3)])
    assert ended == Ended(
        service_class="standard",
        tenant="default",
        outcome=Outcome.ANSWERED,
        asked_s=5.0,
        ended_s=pytest.approx(5.0 + 0.1 + 0.2 + 2.0 + 2.0 + 0.4),
        num_prompt_tokens=10,
        num_output_tokens=3,
        queue_s=0.0,
        ttft_s=pytest.approx(0.1 + 0.2 + 2.0 + 0.4),
        tpot_s=pytest.approx(1.0),
    )


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    (ended,) = play(make_scenario(), [arrival(num_output_tokens=1)])
    assert ended.tpot_s is None


def test_a_slot_is_free_again_when_the_queue_has_heard_of_the_end() -> None:
    scenario = make_scenario(shape=ONE_SLOT, overheads=OVERHEADS)
    _, other = play(scenario, [arrival(0.0), arrival(1.0)])
    # The first is on the engine from 0.3 to 4.3, and released at 5.1.
    assert other.queue_s == pytest.approx(5.1 - 1.1)
    assert other.ended_s == pytest.approx(5.1 + 0.2 + 4.0 + 0.4)


def test_what_serving_adds_to_a_step_slows_every_step_down() -> None:
    (alone,), (served,) = (
        play(make_scenario(overheads=ServiceOverheads(slowdown=slowdown)), [arrival()]) for slowdown in (1.0, 1.5)
    )
    assert alone.ttft_s
    assert alone.tpot_s
    assert (served.ttft_s, served.tpot_s) == pytest.approx((1.5 * alone.ttft_s, 1.5 * alone.tpot_s))


def test_two_replicas_share_the_load() -> None:
    one, other = play(make_scenario(shape=ONE_SLOT, num_replicas=2), [arrival(0.0), arrival(0.0)])
    assert (one.queue_s, other.queue_s) == (0.0, 0.0)
    assert one.ended_s == other.ended_s == 4.0


def test_who_comes_when_too_many_wait_is_refused() -> None:
    scenario = make_scenario(shape=ONE_SLOT, bounds=AdmissionBounds(max_waiting=1))
    ended = play(scenario, [arrival(0.0), arrival(0.1), arrival(0.2)])
    assert [each.outcome for each in ended] == [Outcome.REFUSED, Outcome.ANSWERED, Outcome.ANSWERED]
    assert (ended[0].asked_s, ended[0].ttft_s) == (0.2, None)


def test_who_waits_with_a_low_key_is_shed_for_a_higher_one() -> None:
    scenario = make_scenario(shape=ONE_SLOT, bounds=AdmissionBounds(max_waiting=1))
    ended = play(scenario, [arrival(0.0), arrival(0.1, priority=-10), arrival(0.2, priority=10)])
    assert (ended[0].outcome, ended[0].asked_s) == (Outcome.SHED, 0.1)


def test_a_refused_client_comes_back_when_it_was_told_to() -> None:
    bounds = AdmissionBounds(max_waiting=1, default_retry_after_s=20.0)
    scenario = make_scenario(shape=ONE_SLOT, bounds=bounds, clients=Clients(max_retries=1))
    ended = play(scenario, [arrival(0.0), arrival(0.1), arrival(0.2)])
    assert [each.outcome for each in ended] == [Outcome.ANSWERED] * 3
    assert ended[-1].asked_s == 0.2
    assert ended[-1].ttft_s == pytest.approx(20.0 + 2.0)  # as the client sees it


def test_a_client_that_was_refused_too_often_gives_up() -> None:
    bounds = AdmissionBounds(max_waiting=1, default_retry_after_s=0.5)
    scenario = make_scenario(shape=ONE_SLOT, bounds=bounds, clients=Clients(max_retries=2))
    ended = play(scenario, [arrival(0.0), arrival(0.1), arrival(0.2)])
    assert ended[0].outcome is Outcome.REFUSED
    assert ended[0].ended_s == pytest.approx(0.2 + 2 * 0.5)


def test_a_deadline_that_passes_in_the_queue_ends_the_request_then() -> None:
    scenario = make_scenario(shape=ONE_SLOT, clients=Clients(deadlines_s={"urgent": 2.5}))
    ended = play(scenario, [arrival(0.0), arrival(0.5, service_class="urgent")])
    assert (ended[0].outcome, ended[0].ended_s) == (Outcome.LATE, 3.0)


def test_what_no_replica_can_hold_is_told_so() -> None:
    (ended,) = play(make_scenario(shape=make_shape(num_blocks=2)), [arrival(num_prompt_tokens=10)])
    assert ended.outcome is Outcome.TOO_LARGE


def test_who_gives_way_goes_on_where_there_is_room_and_keeps_its_tokens() -> None:
    scenario = make_scenario(shape=make_shape(max_num_seqs=1), num_replicas=2)
    ended = play(
        scenario,
        [arrival(0.0, 10, 6, priority=1), arrival(0.0, 10, 20), arrival(3.0, 10, 20, priority=20)],
    )
    spared = next(each for each in ended if each.num_output_tokens == 6)
    # Both began at 2. The newcomer takes the place of the second.
    assert (spared.num_preemptions, spared.ended_s) == (0, 7.0)
    displaced = next(each for each in ended if each.num_preemptions)
    # It had two tokens at 3. At 7 the other replica is free; its own says with the step that ends at 8 that it has let
    # it go. Then come a prompt of twelve tokens and seventeen steps more.
    assert displaced.ttft_s == 2.0
    assert displaced.ended_s == pytest.approx(8.0 + 1.0 + 1.2 + 17.0)


def test_tenants_that_compete_are_served_by_their_weights() -> None:
    arrivals = [arrival(0.0, 10, 10, tenant=tenant) for _ in range(30) for tenant in ("one", "other")]
    scenario = make_scenario(shape=ONE_SLOT, tenant_weights={"one": 2.0})
    ended = play(scenario, arrivals)
    served = Counter(each.tenant for each in ended[:30])
    assert served["one"] == pytest.approx(20, abs=1)


def test_a_client_of_a_closed_loop_asks_again_after_its_answer() -> None:
    mix = Mix((ClassShare("standard", 1.0, 0.0, FixedLengths(Size(10, 3))),))
    traffic = ClosedClients(ClosedLoop(num_clients=2, mean_think_s=0.0, mix=mix), seed=1, duration_s=9.0)
    ended = play(make_scenario(), traffic)
    # Both together: a step of three seconds, then two of one.
    assert [each.asked_s for each in ended] == [0.0, 0.0, 5.0, 5.0]
    assert [each.ended_s for each in ended] == [5.0, 5.0, 10.0, 10.0]


def test_a_longer_allowance_changes_what_is_reserved_and_not_what_is_answered() -> None:
    # Of 64 tokens of cache one request of 10 + 256 would take all, if it were not cut to what fits.
    shape = make_shape(num_blocks=100, max_num_seqs=4)
    known, open_ended = (
        play(make_scenario(shape=shape, clients=clients), [arrival(0.0), arrival(0.0)])
        for clients in (Clients(), Clients(max_output_tokens=300))
    )
    assert [each.queue_s for each in known] == [0.0, 0.0]
    assert open_ended[1].queue_s == 4.0
    assert [each.num_output_tokens for each in open_ended] == [3, 3]


def spread(seed: int, **fields: object) -> Scenario:
    engine = EngineModel(make_scenario().engine.step, spread=(0.5, 1.0, 1.2, 3.0))
    return replace(make_scenario(engine=engine, overheads=OVERHEADS, num_replicas=2, **fields), seed=seed)


def test_the_same_seed_gives_the_same_ends_and_another_one_others() -> None:
    arrivals = first(80, rate_per_s=1.0)
    scenario = spread(1, shape=make_shape(num_blocks=400))
    assert play(scenario, arrivals) == play(scenario, arrivals)
    assert play(scenario, arrivals) != play(replace(scenario, seed=2), arrivals)


drawn_arrivals = st.lists(
    st.builds(
        arrival,
        at_s=st.floats(0, 50),
        num_prompt_tokens=st.integers(1, 60),
        num_output_tokens=st.integers(1, 20),
        priority=st.sampled_from([-10, 0, 0, 10]),
        service_class=st.sampled_from(["urgent", "standard"]),
    ),
    max_size=25,
).map(lambda arrivals: sorted(arrivals, key=lambda each: each.at_s))


@given(drawn_arrivals, st.integers(1, 6), st.integers(0, 2))
def test_every_request_ends_exactly_once(arrivals: list[Arrival], max_waiting: int, max_retries: int) -> None:
    scenario = spread(
        1,
        shape=make_shape(max_num_seqs=2, num_blocks=18),
        bounds=AdmissionBounds(max_waiting=max_waiting),
        clients=Clients(deadlines_s={"urgent": 6.0}, max_retries=max_retries),
    )
    ended = play(scenario, arrivals)
    assert Counter(each.asked_s for each in ended) == Counter(each.at_s for each in arrivals)
    answered = [each for each in ended if each.outcome is Outcome.ANSWERED]
    assert all(each.ttft_s is not None for each in answered)
    assert all((each.tpot_s is None) == (each.num_output_tokens == 1) for each in answered)


def starts_by_brute_force(arrivals: list[Arrival], num_slots: int, policy: ScorePolicy) -> dict[float, float]:
    """When each starts, by its arrival: at each moment with a free slot the best score of all who wait, looked at anew.

    Each takes a second for each token of its answer, and the tenth of its prompt.
    """
    slots, waiting, starts, left = [0.0] * num_slots, [], {}, list(arrivals)
    while left or waiting:
        free_s = min(slots)
        if not waiting:
            free_s = max(free_s, left[0].at_s)
        while left and left[0].at_s <= free_s:
            waiting.append(left.pop(0))
        best = max(
            waiting,
            key=lambda each: (policy.alpha * each.priority + policy.beta * (free_s - each.at_s), -each.at_s),
        )
        waiting.remove(best)
        starts[best.at_s] = free_s
        slots[slots.index(min(slots))] = free_s + best.num_output_tokens + best.num_prompt_tokens / 10
    return starts


apart = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 5), st.integers(1, 9), st.sampled_from([-3, 0, 1, 5])),
    min_size=1,
    max_size=20,
    unique_by=lambda drawn: drawn[0],
)


@given(apart, st.integers(1, 3))
def test_the_order_of_starts_is_that_of_the_score_looked_at_anew_each_time(
    drawn: list[tuple[int, int, int, int]], num_slots: int
) -> None:
    # Times are quarters apart from when slots fall free, so that no two things happen at once.
    arrivals = [
        arrival(at + 1 / 16, prompt * 10, output, priority=priority) for at, prompt, output, priority in sorted(drawn)
    ]
    scenario = make_scenario(shape=ONE_SLOT, num_replicas=num_slots)
    ended = play(scenario, arrivals)
    starts = {each.asked_s: each.asked_s + (each.queue_s or 0.0) for each in ended}
    assert starts == pytest.approx(starts_by_brute_force(arrivals, num_slots, scenario.policy))
