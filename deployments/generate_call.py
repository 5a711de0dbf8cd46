"""Owns the seam between the ingress and the model behind it: one call, and what comes back.

Knows nothing of Ray, of HTTP or of how a lease is found; tests put a fake behind it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Protocol

from engine.protocol import EngineRequest, SequenceOutput
from scheduling.request import Grant, Ticket
from scheduling.score import Stamp


@dataclass(frozen=True, slots=True)
class FeedAddress:
    """Where an ingress listens for the tokens of its calls. Whoever knows `secret` may send there."""

    host: str
    port: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class GenerateCall:
    """One attempt of one choice: the ticket that waits for a lease, and the work that the lease pays for.

    `ticket.lease_id == request.lease_id`. `request.stamp` and `request.policy` are provisional (the ingress has not
    been stamped yet): whoever receives the grant puts the grant's in their place before the engine sees the request.
    feed: where the tokens go.
    """

    ticket: Ticket
    request: EngineRequest
    grant: Grant | None = None
    feed: FeedAddress | None = None
    num_resends: int = 0

    def granted(self, grant: Grant) -> GenerateCall:
        """The call as the replica gets it: stamped by the queue, under the policy that decided the grant."""
        ticket = replace(self.ticket, stamp=grant.stamp)
        request = replace(self.request, stamp=grant.stamp, policy=grant.policy)
        return replace(self, ticket=ticket, request=request, grant=grant)

    def continued(
        self, stamp: Stamp | None, output_token_ids: list[int], num_attempts: int, *, is_suspect: bool = False
    ) -> GenerateCall:
        """The call for whoever goes on after these tokens: under its old stamp, and a lease id of its own.

        stamp: None where this attempt was not granted: the call keeps the one that it has, if any. num_attempts: how
        many came before. is_suspect: its replica may have died of it.
        """
        lease_id = f"{self.ticket.lease_id.partition('~')[0].partition('+')[0]}+{num_attempts}"
        stamp = stamp or self.ticket.stamp
        num_prompt_tokens = len(self.request.prompt_token_ids) + len(output_token_ids)
        ticket = replace(
            self.ticket,
            lease_id=lease_id,
            stamp=stamp,
            num_prompt_tokens=num_prompt_tokens,
            max_output_tokens=max(0, self.request.sampling.max_tokens - len(output_token_ids)),
            deadline_s=None if output_token_ids else self.ticket.deadline_s,
        )
        sampling = self.request.sampling
        if output_token_ids:
            sampling = replace(sampling, prompt_logprobs=None)  # they came with the first token
        request = replace(
            self.request,
            lease_id=lease_id,
            stamp=stamp or self.request.stamp,
            sampling=sampling,
            output_token_ids=output_token_ids,
            is_suspect=is_suspect,
        )
        return GenerateCall(ticket, request)

    def resent(self) -> GenerateCall:
        """The call once more, under a lease id of its own, because the replica that was granted did not take it."""
        num_resends = self.num_resends + 1
        lease_id = f"{self.ticket.lease_id.partition('~')[0]}~{num_resends}"
        ticket = replace(self.ticket, lease_id=lease_id)
        request = replace(self.request, lease_id=lease_id)
        return replace(self, ticket=ticket, request=request, grant=None, num_resends=num_resends)


@dataclass(frozen=True, slots=True)
class Started:
    """The first that is heard of a call: the lease was granted and the replica has taken the call.

    queue_s: seconds between arrival and grant. key: the key that it was granted under.
    """

    queue_s: float
    key: float
    replica_id: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Entered:
    """The replica computes the call from now on: said only of suspects, before the step that begins it."""


GenerationEvent = Started | Entered | SequenceOutput


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
