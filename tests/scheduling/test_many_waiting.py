"""What a freed slot costs while thousands wait: counted in calls, not in seconds."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.score import PolicyName, ScorePolicy
from tests.factories import make_dispatcher, make_replica, make_ticket

NUM_RELEASES = 20


def num_calls(do: Callable[[], None]) -> int:
    """Calls of functions, built-in ones included, that it takes: what goes through all who wait makes one for each."""
    counted = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        do()
    finally:
        sys.setprofile(before)
    return counted


def busy_dispatcher(num_waiting: int, policy: ScorePolicy) -> Dispatcher:
    """One slot, taken by lease-0, and so many who wait for it, of two tenants and five priorities."""
    dispatcher = make_dispatcher(
        make_replica(max_num_seqs=1), policy=policy, bounds=AdmissionBounds(max_waiting=2 * num_waiting)
    )
    for number in range(num_waiting + 1):
        ticket = make_ticket(f"lease-{number}", priority=number % 5, tenant=f"tenant-{number % 2}")
        dispatcher.enqueue(ticket, "ingress", float(number))
        dispatcher.dispatch(float(number))
    return dispatcher


def calls_for_a_release(num_waiting: int, policy: ScorePolicy) -> float:
    """The median, from the slot's release to the next grant: heaps are tidied now and then."""
    dispatcher, holder, calls = busy_dispatcher(num_waiting, policy), "lease-0", []
    for number in range(NUM_RELEASES):
        granted: list[str] = []

        def release(holder: str = holder, now_s: float = 10_000.0 + number, granted: list[str] = granted) -> None:
            dispatcher.release(holder, num_served=20)
            granted += [grant.lease_id for _, grant in dispatcher.dispatch(now_s)]

        calls.append(num_calls(release))
        (holder,) = granted
    return statistics.median(calls)


@pytest.mark.parametrize("name", ["aged", "fcfs", "strict", "sjf", "skip_join_mlfq"])
def test_five_thousand_who_wait_do_not_hold_up_a_release(name: PolicyName) -> None:
    policy = ScorePolicy(name=name)
    few, many = calls_for_a_release(50, policy), calls_for_a_release(5_000, policy)
    assert many < 1.5 * few
