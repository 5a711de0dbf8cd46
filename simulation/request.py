"""Owns one request on its way: what the queue, the engine and the account are told of it. Knows no order of events."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.request import Grant, Ticket
from scheduling.score import Stamp
from simulation.engine_messages import Gone, Work
from simulation.outcome import Ended, Outcome
from simulation.scenario import Clients
from simulation.traffic import Asked


@dataclass(slots=True, eq=False)
class Request:
    """asked_s: by its client, for the first time. num_tries: refused ones included. begun_s: its first token.

    stamp, num_done: what it keeps when it moves to another replica: its place, and its output tokens.
    """

    asked: Asked
    clients: Clients
    lease_id: str
    asked_s: float
    num_tries: int = 1
    has_waited: bool = False
    queue_s: float | None = None
    begun_s: float | None = None
    stamp: Stamp | None = None
    num_done: int = 0
    num_preemptions: int = 0

    def ticket(self) -> Ticket:
        arrival = self.asked.arrival
        return Ticket(
            lease_id=self.lease_id,
            request_id=self.lease_id,
            priority=arrival.priority,
            num_prompt_tokens=arrival.num_prompt_tokens + self.num_done,
            max_output_tokens=self._max_output_tokens - self.num_done,
            tenant=arrival.tenant,
            service_class=arrival.service_class,
            deadline_s=None if self.num_done else self.clients.deadlines_s.get(arrival.service_class),
            stamp=self.stamp,
        )

    def granted(self, grant: Grant) -> Work:
        """The first grant fixes its place."""
        if self.stamp is None:
            self.stamp, self.queue_s = grant.stamp, grant.queue_s
        return Work(
            lease_id=grant.lease_id,
            stamp=grant.stamp,
            policy=grant.policy,
            num_prompt_tokens=self.asked.arrival.num_prompt_tokens,
            num_output_tokens=self.asked.arrival.num_output_tokens,
            max_output_tokens=self._max_output_tokens,
            num_done=self.num_done,
        )

    @property
    def kept_stamp(self) -> Stamp:
        """Its place; it has been granted one."""
        assert self.stamp is not None, f"{self.lease_id} was never granted"
        return self.stamp

    def begins(self, now_s: float) -> None:
        """It has a token; the first counts."""
        if self.begun_s is None:
            self.begun_s = now_s

    def asks_again(self) -> None:
        """Its client comes back after a refusal."""
        self.num_tries += 1
        self.has_waited = False
        self.lease_id = f"{self.lease_id}+"

    def moves(self, gone: Gone) -> None:
        """It goes on elsewhere, under a lease of its own."""
        self.num_done = gone.num_output_tokens
        self.lease_id = f"{self.lease_id}+"

    def ends(self, outcome: Outcome, now_s: float, to_client_s: float) -> Ended:
        """What its client saw of it, so much later than the service."""
        arrival, ttft_s, tpot_s = self.asked.arrival, None, None
        if outcome is Outcome.ANSWERED and self.begun_s is not None:
            ttft_s = self.begun_s + to_client_s - self.asked_s
            if arrival.num_output_tokens > 1:
                tpot_s = (now_s - self.begun_s) / (arrival.num_output_tokens - 1)
        return Ended(
            service_class=arrival.service_class,
            tenant=arrival.tenant,
            outcome=outcome,
            asked_s=self.asked_s,
            ended_s=now_s + to_client_s,
            num_prompt_tokens=arrival.num_prompt_tokens,
            num_output_tokens=arrival.num_output_tokens,
            queue_s=self.queue_s,
            ttft_s=ttft_s,
            tpot_s=tpot_s,
            num_preemptions=self.num_preemptions,
        )

    @property
    def _max_output_tokens(self) -> int:
        """What its client allows, and at least what it gets."""
        return max(self.asked.arrival.num_output_tokens, self.clients.max_output_tokens or 0)
