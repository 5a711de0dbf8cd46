"""The error tree: facts survive the way from the queue to the client."""

from __future__ import annotations

import pickle

import pytest

from scheduling.errors import (
    DeadlinePassed,
    DeadlineUnmeetable,
    LeaseEnded,
    NeverFits,
    QueueFull,
    QueueTokensFull,
    SchedulingError,
    WaitTooLong,
)

EXAMPLES = [
    QueueFull(num_waiting=8, max_waiting=8, retry_after_s=2.5),
    QueueTokensFull(num_waiting=9000, max_waiting=8000, retry_after_s=2.5),
    WaitTooLong(predicted_wait_s=70, max_wait_s=60, retry_after_s=11),
    DeadlineUnmeetable(deadline_s=0, predicted_wait_s=3, retry_after_s=4),
    DeadlinePassed(deadline_s=1, waited_s=1.5),
    NeverFits(needed_tokens=9000, max_tokens=8192),
    LeaseEnded(lease_id="lease-1"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_process_borders_with_its_facts(error: SchedulingError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_no_fact_has_a_default_on_the_class(error: SchedulingError) -> None:
    assert not [fact for fact in vars(error) if hasattr(type(error), fact)]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_message_states_every_fact(error: SchedulingError) -> None:
    facts = [f"{fact:g}" if isinstance(fact, float) else str(fact) for fact in vars(error).values()]
    assert [fact for fact in facts if fact not in str(error)] == []
