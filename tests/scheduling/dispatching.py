"""Says to a dispatcher what tests say, and reads what it decided. Knows nothing of any one test."""

from __future__ import annotations

from typing import Any

from scheduling.dispatcher import Dispatcher
from scheduling.request import Grant
from tests.factories import make_replica, make_ticket

ONE_SLOT = make_replica("one-slot", max_num_seqs=1)


def enqueue(dispatcher: Dispatcher, *lease_ids: str, now_s: float = 0, owner: str = "ingress", **ticket: Any) -> None:
    for lease_id in lease_ids:
        dispatcher.enqueue(make_ticket(lease_id, **ticket), owner, now_s)


def granted(dispatcher: Dispatcher, now_s: float = 0) -> list[str]:
    """Dispatches, and says who was granted, in order."""
    return [grant.lease_id for _, grant in dispatcher.dispatch(now_s)]


def only_grant(dispatcher: Dispatcher, now_s: float = 0) -> Grant:
    [(_, grant)] = dispatcher.dispatch(now_s)
    return grant


def waiting(dispatcher: Dispatcher, now_s: float = 0) -> list[str]:
    return [view.lease_id for view in dispatcher.snapshot(now_s).waiting]


def running(dispatcher: Dispatcher, now_s: float = 0) -> dict[str, tuple[str, ...]]:
    return {replica.replica_id: replica.running for replica in dispatcher.snapshot(now_s).replicas}


def why(dispatcher: Dispatcher) -> list[str]:
    return [view.why.value for view in dispatcher.snapshot(0).waiting]
