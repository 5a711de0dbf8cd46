"""The queue's time passes evenly, whoever sets the machine's clock."""

from __future__ import annotations

import pytest

from deployments.deployment_actors import ActorIdentity
from deployments.queueing.messages import Enqueue, Refused
from deployments.queueing.state import QueueState
from deployments.queueing.wall_clock import SteadyWallClock
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.errors import DeadlinePassed
from scheduling.score import ScorePolicy
from tests.factories import make_ticket

WALL_S = 1_700_000_000.0


class Machine:
    """A machine's two clocks, of which one can be set."""

    def __init__(self) -> None:
        self.wall_s = WALL_S
        self.steady_s = 500.0

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds

    def clock(self) -> SteadyWallClock:
        return SteadyWallClock(lambda: self.wall_s, lambda: self.steady_s)


def test_it_begins_at_the_wall_clock_and_passes_with_it() -> None:
    machine = Machine()
    clock = machine.clock()

    machine.pass_time(7)

    assert clock.now_s() == WALL_S + 7


@pytest.mark.parametrize("set_by_s", [-3600.0, 3600.0])
def test_a_deadline_passes_in_its_time_whichever_way_the_machine_s_clock_is_set(set_by_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    state = QueueState(Dispatcher(ScorePolicy(), AdmissionBounds()), ActorIdentity("actor", 0.0), lambda: 0.0)
    state.submit("router", [Enqueue(make_ticket("a", deadline_s=5))], 0, clock.now_s())
    machine.wall_s += set_by_s

    machine.pass_time(4)
    state.tick(clock.now_s())
    num_waiting_in_time = state.dispatcher.num_waiting
    machine.pass_time(1)
    state.tick(clock.now_s())

    answers = state.submit("router", [], 1, clock.now_s()).answers
    assert num_waiting_in_time == 1
    assert [type(answer.error) for answer in answers if isinstance(answer, Refused)] == [DeadlinePassed]
