"""Owns what is scheduled: the ticket that waits, the grant that ends the wait. Knows nothing of how one is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scheduling.quotas import QuotaClaim
from scheduling.score import ScorePolicy, Stamp

# Most answers end long before max_tokens, which is the rest of the context where a client gives none. Reserving so much
# would leave slots empty; what turns out longer is for the engine to fit, by preemption.
EXPECTED_OUTPUT_TOKENS = 256


@dataclass(frozen=True, slots=True)
class TokenNeed:
    """KV tokens of one sequence: `most` must fit into an empty replica, `expected` is reserved while it runs."""

    most: int
    expected: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """One attempt of one choice of a request, as the queue sees it: never the prompt, only its size.

    lease_id: minted by the ingress for each attempt; everything about the attempt is keyed by it.
    request_id: what the client sees; shared by all choices and attempts.
    max_output_tokens: the most that this attempt may still generate.
    deadline_s: the answer must start within so many seconds of arrival; None means no deadline.
    content: what tells its prompt from others (a hash), so that a client which comes back is known; never the prompt.
    prefixes: hashes of its prompt's beginnings, a step of `affinity.PREFIX_TOKENS` longer each.
    need: what the attempt needs of a replica's KV cache.
    claim: whom it is charged to; None for an account without limits.
    stamp: None on the first attempt (the queue stamps it); kept when the request is queued again after a failure.

    Raises:
        ValueError: a count is negative, or priority or deadline is infinite or not a number.
    """

    lease_id: str
    request_id: str
    priority: float
    num_prompt_tokens: int
    max_output_tokens: int
    tenant: str = "default"
    service_class: str = "standard"
    deadline_s: float | None = None
    stamp: Stamp | None = None
    content: str = ""
    prefixes: tuple[str, ...] = ()
    claim: QuotaClaim | None = None
    need: TokenNeed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        expected = self.num_prompt_tokens + min(self.max_output_tokens, EXPECTED_OUTPUT_TOKENS)
        object.__setattr__(self, "need", TokenNeed(self.num_tokens, expected))
        for name in ("num_prompt_tokens", "max_output_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)!r}")
        for name in ("priority", "deadline_s"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name}: expected a finite number, got {value!r}")

    @property
    def num_tokens(self) -> int:
        """What the attempt can come to hold in a KV cache: prompt and the longest output."""
        return self.num_prompt_tokens + self.max_output_tokens


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease: this ticket may run on this replica now. `policy` is the one that the order was decided under."""

    lease_id: str
    replica_id: str
    stamp: Stamp
    policy: ScorePolicy
    granted_s: float

    @property
    def queue_s(self) -> float:
        """Seconds between arrival and grant."""
        return max(0.0, self.granted_s - self.stamp.arrival_s)
