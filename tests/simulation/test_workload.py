"""Who asks: the mix, over an open loop, a closed one and recorded requests."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from simulation.workload import (
    Arrival,
    ClosedLoop,
    FixedLengths,
    Lognormal,
    LognormalLengths,
    Poisson,
    Recorded,
    Scale,
    Size,
    TenantShare,
    during,
    open_loop,
)
from tests.simulation.factories import FLEX, STANDARD, URGENT, first, make_mix


def test_each_class_and_tenant_has_its_share_and_its_own_settings() -> None:
    arrivals = first(20_000, make_mix(tenants=(TenantShare("a", 0.25), TenantShare("b", 0.75))))
    classes = Counter(each.service_class for each in arrivals)
    tenants = Counter((each.service_class, each.tenant) for each in arrivals)

    assert classes["urgent"] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert classes["flex"] / 20_000 == pytest.approx(0.5, abs=0.02)
    assert tenants["flex", "a"] / classes["flex"] == pytest.approx(0.25, abs=0.02)
    urgent = next(each for each in arrivals if each.service_class == "urgent")
    assert (urgent.priority, urgent.num_prompt_tokens, urgent.num_output_tokens) == (10.0, 32, 16)


def test_the_same_seed_gives_the_same_requests_and_another_others() -> None:
    assert first(50, seed=3) == first(50, seed=3)
    assert first(50, seed=3) != first(50, seed=4)


def test_arrivals_come_one_by_one_in_order_of_time() -> None:
    endless = open_loop(Poisson(10.0), make_mix(), seed=1)

    times_s = [each.at_s for each in itertools.islice(endless, 100)]
    assert times_s == sorted(times_s)
    assert next(endless).at_s > times_s[-1]


def test_changing_the_mix_leaves_the_times_and_the_other_choices_as_they_were() -> None:
    before = first(50)
    after = first(50, make_mix(tenants=(TenantShare("a", 0.5), TenantShare("b", 0.5))))

    assert [replace(each, tenant="default") for each in after] == before


def test_a_classs_lengths_do_not_depend_on_the_other_classes() -> None:
    varied = replace(URGENT, lengths=LognormalLengths(Lognormal(50, 1.0, 500), Lognormal(50, 1.0, 500)))
    longer_flex = replace(FLEX, lengths=FixedLengths(Size(4000, 1)))

    def urgent_sizes(flex: object) -> list[tuple[int, int]]:
        arrivals = first(300, make_mix(varied, STANDARD, flex))  # type: ignore[arg-type]
        return [(a.num_prompt_tokens, a.num_output_tokens) for a in arrivals if a.service_class == "urgent"]

    assert urgent_sizes(FLEX) == urgent_sizes(longer_flex)


def test_recorded_requests_keep_their_times_and_lengths_under_a_mix() -> None:
    recorded = [Recorded(float(number), Size(number + 1, number + 2)) for number in range(200)]
    arrivals = list(make_mix().laid_over(recorded, seed=1))

    assert [(a.at_s, Size(a.num_prompt_tokens, a.num_output_tokens)) for a in arrivals] == [
        (each.at_s, each.size) for each in recorded
    ]
    assert {a.service_class for a in arrivals} == {"urgent", "standard", "flex"}


def test_during_ends_with_the_first_arrival_that_is_too_late() -> None:
    arrivals = list(during(open_loop(Poisson(10.0), make_mix(), seed=1), 5.0))

    assert arrivals == first(len(arrivals))
    assert first(len(arrivals) + 1)[-1].at_s >= 5.0


@pytest.mark.parametrize(
    ("shares", "named"),
    [
        ((0.1, 0.4), r"classes: sum of shares: expected 1, got 0.5"),
        ((0.6, 0.6), r"classes: sum of shares: expected 1, got 1.2"),
        ((1.5, -0.5), r"classes: share of urgent: expected a share from 0 to 1, got 1.5"),
    ],
)
def test_shares_that_are_not_one_whole_are_refused(shares: tuple[float, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_mix(replace(URGENT, share=shares[0]), replace(FLEX, share=shares[1]))


def test_a_tenants_share_is_checked_like_a_classs() -> None:
    with pytest.raises(ValueError, match=r"tenants: sum of shares: expected 1, got 0\.5"):
        make_mix(tenants=(TenantShare("a", 0.5),))


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="classes: names: expected each once"):
        make_mix(replace(URGENT, share=0.5), replace(URGENT, share=0.5))


def test_scaling_divides_gaps_and_multiplies_lengths_up_to_the_limits() -> None:
    (scaled,) = Scale(rate=2.0, prompt=0.5, output=3.0, max_output_tokens=40).arrivals(
        [Arrival(10.0, 100, 20, 0.0, "standard", "default")]
    )

    assert scaled == Arrival(5.0, 50, 40, 0.0, "standard", "default")


def test_a_scaled_length_is_never_less_than_one_token() -> None:
    assert Scale(prompt=0.001, output=0.001).size(Size(3, 3)) == Size(1, 1)


def test_recorded_requests_are_scaled_in_the_same_way() -> None:
    (scaled,) = Scale(rate=4.0, prompt=2.0, max_prompt_tokens=15).recorded([Recorded(2.0, Size(10, 7))])

    assert scaled == Recorded(0.5, Size(15, 7))


@pytest.mark.parametrize("settings", [{"rate": 0.0}, {"prompt": -1.0}, {"max_output_tokens": 0}])
def test_a_scale_that_makes_no_sense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Scale(**settings)  # type: ignore[arg-type]


def test_a_client_of_a_closed_loop_thinks_after_each_answer() -> None:
    turns = list(itertools.islice(ClosedLoop(2, 3.0, make_mix()).turns(client=0, seed=1), 4000))

    assert sum(turn.think_s for turn in turns) / 4000 == pytest.approx(3.0, rel=0.1)
    assert turns[0].asked(answered_s=7.0) == replace(turns[0].request, at_s=7.0 + turns[0].think_s)


def test_clients_without_time_to_think_ask_at_once() -> None:
    turns = itertools.islice(ClosedLoop(1, 0.0, make_mix()).turns(client=0, seed=1), 5)

    assert {turn.think_s for turn in turns} == {0.0}


def test_clients_of_one_seed_differ_and_each_is_the_same_again() -> None:
    loop = ClosedLoop(2, 1.0, make_mix())
    a, again, b = (list(itertools.islice(loop.turns(client, seed=1), 20)) for client in (0, 0, 1))

    assert a == again
    assert a != b


@pytest.mark.parametrize("client", [-1, 2])
def test_a_client_that_is_not_of_the_loop_is_an_error(client: int) -> None:
    with pytest.raises(ValueError, match="client: expected 0 to 1"):
        next(ClosedLoop(2, 0.0, make_mix()).turns(client, seed=1))
