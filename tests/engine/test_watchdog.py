"""A step that hangs ends the process; one that takes its time, and an idle engine, do not."""

from __future__ import annotations

import logging
import threading

import pytest

from engine.loop import EngineLoop
from engine.protocol import Chunk, CommandMessage, Sampled
from engine.watchdog import StepWatchdog
from tests.engine.factories import make_config, make_request
from tests.engine.fake_answers import Saboteur

BOUND_S = 20.0


class Hangs(Saboteur):
    """Blocks in its first step until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        assert self.let_go.wait(BOUND_S), "nobody noticed the hang"
        return super().execute(chunks)


def test_a_step_that_hangs_is_found_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    engine = Hangs()
    watchdog = StepWatchdog(step_timeout_s=0.02, on_hang=engine.let_go.set)
    loop = EngineLoop(engine, make_config(), watch=watchdog.watching)
    loop.apply(CommandMessage(added=[make_request()]))
    with caplog.at_level(logging.CRITICAL):
        watchdog.start()
        loop.step()
    assert "a step over 10 tokens has not ended in" in caplog.text
    assert "0.02 s is its limit (step_timeout_s)" in caplog.text


class Clock:
    now_s = 100.0

    def read(self) -> float:
        return self.now_s


def test_a_step_is_overdue_only_once_its_time_is_up_and_only_while_it_runs() -> None:
    clock = Clock()
    watchdog = StepWatchdog(60.0, clock=clock.read)
    clock.now_s += 1000
    assert watchdog.overdue() is None
    with watchdog.watching(num_tokens=1):
        clock.now_s += 60
        assert watchdog.overdue() is None
        clock.now_s += 0.5
        assert watchdog.overdue() == "a step over 1 tokens has not ended in 60.5 s, 60 s is its limit"
    assert watchdog.overdue() is None


def test_a_step_that_raises_is_watched_no_longer() -> None:
    clock = Clock()
    watchdog = StepWatchdog(1.0, clock=clock.read)
    with pytest.raises(ConnectionError), watchdog.watching(1):
        raise ConnectionError
    clock.now_s += 10
    assert watchdog.overdue() is None


@pytest.mark.parametrize(("num_tokens", "limit_s"), [(0, 60.0), (512, 60.0), (513, 120.0), (4096, 480.0)])
def test_a_larger_step_may_take_longer(num_tokens: int, limit_s: float) -> None:
    assert StepWatchdog(60.0).limit_s(num_tokens) == limit_s


def test_a_pause_of_the_whole_process_does_not_count_for_the_step_that_it_fell_into() -> None:
    clock = Clock()
    watchdog = StepWatchdog(60.0, clock=clock.read)

    def seconds_until_overdue() -> int:
        for second in range(1, 100):
            clock.now_s += 1
            if watchdog.look() is not None:
                return second
        raise AssertionError("it was never overdue")

    with watchdog.watching(num_tokens=1):
        clock.now_s += 1000  # frozen: nobody looked
        assert watchdog.look() is None
        assert 59 <= seconds_until_overdue() <= 61
    with watchdog.watching(num_tokens=1):
        assert seconds_until_overdue() == 61
