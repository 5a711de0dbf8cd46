"""What a scenario cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.errors import LeaseEnded
from simulation.outcome import outcome_of
from simulation.scenario import Clients
from tests.simulation.scenarios import make_scenario


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_output_tokens": 0}, "max_output_tokens: expected at least 1, got 0"),
        ({"max_retries": -1}, "max_retries: expected at least 0, got -1"),
        ({"deadlines_s": {"urgent": 0.0}}, r"deadlines_s\.urgent: expected a finite number above 0, got 0\.0"),
        ({"deadlines_s": {"urgent": float("inf")}}, r"deadlines_s\.urgent"),
    ],
)
def test_clients_that_cannot_be_are_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Clients(**fields)


def test_a_service_without_replicas_is_refused() -> None:
    with pytest.raises(ValueError, match="num_replicas: expected at least 1, got 0"):
        make_scenario(num_replicas=0)


def test_an_error_that_ends_no_request_is_not_taken_for_an_outcome() -> None:
    with pytest.raises(LeaseEnded):
        outcome_of(LeaseEnded("r1"), has_waited=True)
