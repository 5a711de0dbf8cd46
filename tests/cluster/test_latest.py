"""Who needs the latest answer never waits for it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest

from cluster.latest import Latest

WITHIN_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Oracle:
    """Answers with its questions' numbers, one for each time that it is allowed to."""

    def __init__(self, answer: Callable[[int], int | None] = lambda num: num) -> None:
        self._answer = answer
        self._may_answer = threading.Semaphore(0)
        self._asked = threading.Condition()
        self.num_asked = 0

    def __call__(self) -> int | None:
        with self._asked:
            self.num_asked += 1
            self._asked.notify_all()
        self._may_answer.acquire()
        return self._answer(self.num_asked)

    def answer(self, times: int = 1) -> None:
        self._may_answer.release(times)

    def until_asked(self, times: int) -> None:
        """The answer before that question has been taken in by then."""
        with self._asked:
            assert self._asked.wait_for(lambda: self.num_asked >= times, WITHIN_S)


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


def latest_of(oracle: Oracle, clock: Clock) -> Latest[int]:
    return Latest(oracle, (OSError,), clock, ask_every_s=0.0)


def test_there_is_no_answer_while_the_first_is_being_asked_for(oracle: Oracle) -> None:
    latest = latest_of(oracle, Clock())
    oracle.until_asked(1)

    assert latest.within(1e9) is None

    oracle.answer(1_000)


def test_the_last_answer_stands_while_the_next_is_being_asked_for(oracle: Oracle) -> None:
    latest = latest_of(oracle, Clock())
    oracle.answer(2)
    oracle.until_asked(3)

    assert latest.within(1.0) == 2

    oracle.answer(1_000)


def test_an_answer_that_is_too_old_is_none(oracle: Oracle) -> None:
    clock = Clock()
    latest = latest_of(oracle, clock)
    oracle.answer()
    oracle.until_asked(2)

    clock.now_s = 5.0
    assert latest.within(5.0) == 1
    assert latest.within(4.9) is None

    oracle.answer(1_000)


def test_a_failure_and_no_answer_leave_the_last_one_and_are_asked_again() -> None:
    def answer(num: int) -> int | None:
        if num == 2:
            raise ConnectionError
        return None if num == 3 else num

    oracle = Oracle(answer)
    latest = latest_of(oracle, Clock())
    oracle.answer(3)
    oracle.until_asked(4)
    assert latest.within(1.0) == 1

    oracle.answer()
    oracle.until_asked(5)
    assert latest.within(1.0) == 4

    oracle.answer(1_000)


def test_asking_ends_with_the_last_reader(oracle: Oracle) -> None:
    before = set(threading.enumerate())
    latest = latest_of(oracle, Clock())
    [thread] = set(threading.enumerate()) - before
    oracle.until_asked(1)

    del latest
    gc.collect()
    oracle.answer(1_000)
    thread.join(WITHIN_S)

    assert not thread.is_alive()
