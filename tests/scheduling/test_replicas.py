"""What a replica can hold: limits that make sense, and room that is never negative."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from scheduling.replicas import Held, Replica
from scheduling.request import TokenNeed
from tests.factories import make_replica


@pytest.mark.parametrize("name", ["max_num_seqs", "kv_tokens", "max_model_len"])
def test_a_limit_below_one_is_refused_by_name(name: str) -> None:
    bad: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        make_replica(**bad)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_a_start_that_took_no_time_that_can_be_is_refused_by_name(wrong: float) -> None:
    with pytest.raises(ValueError, match="started_in_s: expected a finite number of at least 0"):
        replace(make_replica(), started_in_s=wrong)


@pytest.mark.parametrize(("kv_tokens", "max_model_len"), [(100, 1_000), (1_000, 100)])
def test_the_largest_request_is_limited_by_cache_and_context_alike(kv_tokens: int, max_model_len: int) -> None:
    assert make_replica(kv_tokens=kv_tokens, max_model_len=max_model_len).max_request_tokens == 100


def test_a_replica_that_holds_more_than_it_has_room_for_has_no_room() -> None:
    replica = Replica(make_replica(max_num_seqs=1, kv_tokens=100))
    replica.hold("a", Held(80))
    replica.hold("b", Held(80))
    assert (replica.num_free_slots, replica.num_free_tokens) == (0, 0)
    assert not replica.has_room_for(TokenNeed(1, 1))


def test_a_replica_that_holds_all_that_it_can_has_no_room_for_newcomers_but_those_who_gave_way_may_go_on() -> None:
    replica = Replica(make_replica(max_num_seqs=2, parked_limit=1))
    for lease_id in ("a", "b"):
        replica.hold(lease_id, Held(1, is_parked=True))
    assert replica.has_room_for(TokenNeed(1, 1))

    replica.hold("c", Held(1))

    assert (replica.num_running, replica.num_free_slots) == (1, 0)
    assert not replica.has_room_for(TokenNeed(1, 1))
    assert replica.could_resume(TokenNeed(1, 1))
