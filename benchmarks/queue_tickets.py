"""Owns what the queue benchmark asks the queue for: tickets of mixed priority, length and tenant. Sends nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from deployments.queueing.messages import Configure, Register
from scheduling.admission import AdmissionBounds
from scheduling.affinity import PREFIX_TOKENS
from scheduling.replicas import ReplicaState
from scheduling.request import Ticket
from scheduling.score import ScorePolicy

_PROMPTS = (16, 512)  # tokens, the shortest and the longest
_OUTPUTS = (16, 256)
_PRIORITIES = (-10, 10)


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """num_waiting: tickets in the queue while it is measured. num_slots: of each replica; all are always taken."""

    num_waiting: int
    num_grants: int
    num_ingresses: int
    num_replicas: int
    num_slots: int
    num_tenants: int
    seed: int


def tickets(load: QueueLoad) -> Iterator[Ticket]:
    """Without an end; the same for the same seed."""
    rng = random.Random(load.seed)
    number = 0
    while True:
        number += 1
        num_prompt_tokens = rng.randint(*_PROMPTS)
        yield Ticket(
            lease_id=f"lease-{number}",
            request_id=f"request-{number}",
            priority=float(rng.randint(*_PRIORITIES)),
            num_prompt_tokens=num_prompt_tokens,
            max_output_tokens=rng.randint(*_OUTPUTS),
            tenant=_tenant(rng.randrange(load.num_tenants)),
            content=f"content-{number}",
            prefixes=tuple(f"prefix-{number}-{step}" for step in range(num_prompt_tokens // PREFIX_TOKENS)),
        )


def settings(load: QueueLoad) -> Configure:
    """Bounds that refuse nobody; tenants of equal weight."""
    weights = {_tenant(number): 1.0 for number in range(load.num_tenants)} if load.num_tenants > 1 else {}
    roomy = AdmissionBounds(
        max_waiting=4 * (load.num_waiting + load.num_slots * load.num_replicas), max_wait_s=math.inf
    )
    return Configure(ScorePolicy(), roomy, weights)


def registration(load: QueueLoad, replica_id: str, num_served: int = 0) -> Register:
    """A replica that holds as many as it has slots; nobody gives way on it."""
    longest = _PROMPTS[1] + _OUTPUTS[1]
    state = ReplicaState(replica_id, load.num_slots, load.num_slots * longest, longest, incarnation=1)
    return Register(state, num_served=num_served)


def _tenant(number: int) -> str:
    return f"tenant-{number}"
