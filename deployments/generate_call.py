"""Owns the seam between the ingress and the model behind it: one call, and what comes back.

Knows nothing of Ray, of HTTP or of how a lease is found; tests put a fake behind it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from engine.protocol import EngineRequest, SequenceOutput
from scheduling.request import Ticket
from scheduling.score import Stamp


@dataclass(frozen=True, slots=True)
class GenerateCall:
    """One attempt of one choice: the ticket that waits for a lease, and the work that the lease pays for.

    `ticket.lease_id == request.lease_id`. `request.stamp` and `request.policy` are provisional (the ingress has not
    been stamped yet): whoever receives the grant puts the grant's in their place before the engine sees the request.
    """

    ticket: Ticket
    request: EngineRequest


@dataclass(frozen=True, slots=True)
class Started:
    """The first message of every stream: the lease was granted and the replica has taken the call.

    queue_s: seconds between arrival and grant. key: the key that it was granted under.
    """

    queue_s: float
    key: float
    replica_id: str
    stamp: Stamp


GenerationEvent = Started | SequenceOutput


class ModelHandle(Protocol):
    """A model that generates: `app.py` puts Ray Serve's handle behind it, tests an in-memory fake.

    `generate` yields one `Started`, then `SequenceOutput`s, the last with a `finish_reason`. A stream that ends without
    one has failed. It is an async generator: closing it, or cancelling the task that awaits it, must reach the engine.

    Raises (while iterated):
        scheduling.errors.QueueFull, DeadlinePassed, DeadlineUnmeetable, NeverFits: before `Started` only.
        deployments.errors.ReplicaFailed: at any point; the replica, or the way to it, broke.
    """

    @property
    def name(self) -> str: ...

    @property
    def max_model_len(self) -> int | None: ...

    def generate(self, call: GenerateCall) -> AsyncGenerator[GenerationEvent, None]: ...
