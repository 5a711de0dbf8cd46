"""What the queue actor begins with."""

from __future__ import annotations

from deployments.queueing.actor import first_policy
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.score import ScorePolicy


def test_a_queue_that_starts_anew_is_in_a_later_epoch_than_the_one_before_ever_was() -> None:
    before = Dispatcher(first_policy(1_700_000_000.0), AdmissionBounds())
    for alpha in (2, 3, 4):
        before.reconfigure(ScorePolicy(alpha=alpha), AdmissionBounds())

    after = Dispatcher(first_policy(1_700_000_005.0), AdmissionBounds())

    assert first_policy(1_700_000_000.0).epoch < before.policy.epoch < after.policy.epoch
