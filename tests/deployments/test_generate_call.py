"""What a call brings along when it goes on elsewhere."""

from __future__ import annotations

from deployments.generate_call import GenerateCall
from scheduling.score import Stamp
from tests.deployments.test_router import make_pending

CALL: GenerateCall = make_pending().args[0]
STAMP = Stamp(4.0, 77.0)


def test_an_answer_keeps_its_place_though_the_attempt_before_was_lost_while_it_waited() -> None:
    again = CALL.continued(STAMP, [1], 1).continued(None, [1], 2)

    assert (again.ticket.stamp, again.request.stamp) == (STAMP, STAMP)


def test_one_that_nobody_has_stamped_yet_is_stamped_when_it_is_asked_for() -> None:
    assert CALL.continued(None, [], 1).ticket.stamp is None
