"""Which queue is asked for its load, and when another one is looked for."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError

from deployments.deployment_actors import CLUSTER_ERRORS
from deployments.queue_load import QueueLoad
from scheduling.scaling_load import ScalingLoad

LOAD = ScalingLoad(num_replicas=1)


class FakeQueue:
    """An actor's handle, whose `load` gives these answers one after the other."""

    def __init__(self, *answers: ScalingLoad | Exception | None) -> None:
        self._answers = list(answers)

    @property
    def load(self) -> FakeQueue:
        return self

    def remote(self) -> Any:
        return self._answers.pop(0)


def _get(answer: ScalingLoad | Exception | None, timeout: float) -> ScalingLoad | None:
    if isinstance(answer, Exception):
        raise answer
    return answer


def asking(*queues: FakeQueue | None) -> QueueLoad:
    """Finds these, one look after the other."""
    found = list(queues)
    return QueueLoad(lambda: found.pop(0), _get)


def test_a_queue_is_looked_for_once_and_asked_again_and_again() -> None:
    ask = asking(FakeQueue(LOAD, LOAD, LOAD))
    assert [ask(), ask(), ask()] == [LOAD, LOAD, LOAD]


@pytest.mark.parametrize("failure", [ActorDiedError(), GetTimeoutError()])
def test_a_queue_that_cannot_be_asked_is_looked_for_anew(failure: Exception) -> None:
    ask = asking(FakeQueue(LOAD, failure), FakeQueue(LOAD))
    ask()
    with pytest.raises(CLUSTER_ERRORS):
        ask()
    assert ask() == LOAD


def test_a_queue_that_has_retired_is_asked_no_more() -> None:
    ask = asking(FakeQueue(None), FakeQueue(LOAD))
    assert [ask(), ask()] == [None, LOAD]


def test_there_may_be_no_queue_yet() -> None:
    ask = asking(None, FakeQueue(LOAD))
    assert [ask(), ask()] == [None, LOAD]
