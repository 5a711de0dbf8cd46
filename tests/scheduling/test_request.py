"""Tickets and grants: plain facts, checked when they are made."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from scheduling.request import EXPECTED_OUTPUT_TOKENS, Grant, TokenNeed
from scheduling.score import ScorePolicy, Stamp
from tests.factories import make_ticket


def test_a_ticket_needs_room_for_its_prompt_and_its_longest_output() -> None:
    assert make_ticket(num_prompt_tokens=100, max_output_tokens=28).num_tokens == 128


@pytest.mark.parametrize("name", ["num_prompt_tokens", "max_output_tokens"])
def test_a_negative_count_is_refused_by_name(name: str) -> None:
    bad: dict[str, Any] = {name: -1}
    with pytest.raises(ValueError, match=f"{name}: expected at least 0, got -1"):
        make_ticket(**bad)


@pytest.mark.parametrize("name", ["priority", "deadline_s"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_without_an_order_is_refused_by_name(name: str, value: float) -> None:
    bad: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name}: expected a finite number"):
        make_ticket(**bad)


def test_queue_time_runs_from_arrival_to_grant() -> None:
    grant = Grant("lease-1", "replica-1", Stamp(0, arrival_s=10), ScorePolicy(), granted_s=12.5)
    assert grant.queue_s == 2.5


def test_tickets_and_grants_cross_process_borders_unchanged() -> None:
    stamp = Stamp(1, 2, 3)
    ticket = make_ticket(stamp=stamp)
    grant = Grant("lease-1", "replica-1", stamp, ScorePolicy(), granted_s=4)
    assert pickle.loads(pickle.dumps((ticket, grant))) == (ticket, grant)


def test_a_ticket_reserves_what_it_is_expected_to_hold_and_must_fit_with_its_longest_answer() -> None:
    open_ended = make_ticket(num_prompt_tokens=10, max_output_tokens=8_000)
    short = make_ticket(num_prompt_tokens=10, max_output_tokens=20)

    assert open_ended.need == TokenNeed(most=8_010, expected=10 + EXPECTED_OUTPUT_TOKENS)
    assert short.need == TokenNeed(most=30, expected=30)
