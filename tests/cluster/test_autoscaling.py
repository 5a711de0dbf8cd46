"""Between Serve's question and the decision: whose counts are used, which bounds hold, and what is logged."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from cluster.autoscaling import MAX_AGE_S, ReplicaPolicy
from scheduling.autoscaling import ClassLoad, ScalingLimits, ScalingLoad
from tests.cluster.serve_context import context


@pytest.fixture(autouse=True)
def _serves_logger_is_heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve keeps its records to itself where it has been set up, and other tools silence loggers that they find."""
    logger = logging.getLogger("ray.serve")
    caplog.set_level(logging.INFO, logger=logger.name)
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "disabled", False)


class Queue:
    """Tells of a load, as long as it is reached."""

    def __init__(self, *classes: ClassLoad) -> None:
        self.load: ScalingLoad | None = ScalingLoad(
            classes, tokens_per_s=100.0, startup_s=0.0, max_num_seqs=8, kv_tokens=10_000, num_replicas=77
        )

    def __call__(self, max_age_s: float) -> ScalingLoad | None:
        assert max_age_s == MAX_AGE_S
        return self.load


class World:
    def __init__(self, queue: Queue) -> None:
        self.now_s = 100.0
        limits = ScalingLimits(downscale_window_s=60.0, idle_window_s=60.0)
        self.policy = ReplicaPolicy(limits, queue, clock=lambda: self.now_s)

    def ask(self, *, after_s: float = 0.0, **changed: Any) -> int:
        self.now_s += after_s
        return self.policy.num_replicas(context(**changed))


def backlog(tokens: float) -> ClassLoad:
    return ClassLoad("standard", objective_s=1.0, num_waiting=1, tokens_waiting=tokens, tokens_ahead=tokens)


def test_the_queues_load_decides_and_serves_own_counts_do_not() -> None:
    assert World(Queue(backlog(250.0))).ask(num_requests=1_000.0) == 3


def test_serve_says_how_many_replicas_run_and_how_many_start() -> None:
    world = World(Queue(backlog(250.0)))
    assert world.ask(running=2, target=5) == 5
    assert world.ask(running=5, target=5) == 5


def test_replicas_that_serve_wants_gone_already_are_not_counted() -> None:
    assert World(Queue(backlog(150.0))).ask(running=9, target=1) == 2


def test_the_bounds_are_those_that_serve_has_now() -> None:
    world = World(Queue(backlog(1e6)))
    assert world.ask(most=4) == 4
    assert world.ask(target=4, running=4, most=6) == 6
    assert world.ask(target=6, running=6, most=3) == 3
    assert world.ask(target=3, running=3, most=0) == 1  # Serve itself holds this to none


def test_nothing_changes_until_the_queue_could_first_be_read(caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue()
    queue.load = None
    world = World(queue)

    assert world.ask(target=3, num_requests=1_000.0) == 3
    assert world.ask(target=3, num_requests=1_000.0, after_s=MAX_AGE_S - 1) == 3
    assert not caplog.records


def test_serves_own_counts_decide_while_the_queue_cannot_be_read_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = Queue()
    known, queue.load = queue.load, None
    world = World(queue)

    for _ in range(3):
        assert world.ask(target=3, running=3, num_requests=9.0, after_s=MAX_AGE_S) == 3
    assert world.ask(target=3, running=3, num_requests=130.0) == 3, "all of them may be sheddable"
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "its queue has told of no load for 15 s" in warning.message

    queue.load = known
    world.ask(target=3, running=3)
    assert [record.message for record in caplog.records][-1] == "model: its queue tells of its load again."


def test_replicas_are_not_removed_at_once_because_the_queue_was_lost() -> None:
    queue = Queue(backlog(450.0))
    world = World(queue)
    assert world.ask(running=5, target=5) == 5

    queue.load = None
    assert world.ask(running=5, target=5, after_s=MAX_AGE_S) == 5
    assert world.ask(running=5, target=5, after_s=100.0, least=1) == 1


def test_the_last_replica_stays_while_serve_counts_a_request_for_it() -> None:
    world = World(Queue())
    world.ask()
    assert world.ask(after_s=61.0, num_requests=0.1) == 1
    assert world.ask(num_requests=0.0) == 0


def test_a_change_that_serve_cannot_make_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Queue(backlog(250.0)))
    for _ in range(3):
        world.ask(target=1)
    assert len(caplog.records) == 1


def test_a_change_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    World(Queue(backlog(250.0))).ask()
    assert [record.message for record in caplog.records] == [
        "model: replicas from 1 to 3: what waits would outlast its objective (class standard)."
    ]
