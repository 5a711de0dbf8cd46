"""Owns every way in which scheduling says no: the whole error tree on one page. Knows nothing of HTTP or Ray.

Each error carries its facts as attributes and crosses process borders by pickle. Fields have no defaults, because a
class attribute would hide the fact itself where a framework wraps the error in a subclass that delegates to it.

    SchedulingError
    |-- QueueFull               the waiting room is full: come back later
    |   `-- QueueTokensFull     the same, counted in tokens
    |-- WaitTooLong             refused on arrival: it would wait for too long
    |-- DeadlineUnmeetable      refused on arrival: it could not start in time
    |-- DeadlinePassed          accepted, and waited too long
    |-- QuotaSpent              refused on arrival: the account has had its share of this minute
    |-- LargerThanQuota         refused on arrival: the account may never ask for so much at once
    |-- NeverFits               no replica is large enough, now or later
    `-- LeaseEnded              a message about an attempt that is over
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(eq=False)
class SchedulingError(Exception):
    """The root of the tree. Catch it where every refusal is turned into an answer, at the ingress."""

    def __reduce__(self) -> tuple[type[SchedulingError], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, fact.name) for fact in fields(self))


@dataclass(eq=False)
class QueueFull(SchedulingError):
    """Too many requests wait. The ingress catches it and tells the client when to come back.

    Raised to a newcomer that outranks nobody who may be shed, and delivered to a waiting request that is shed.
    """

    num_waiting: int
    max_waiting: int
    retry_after_s: float

    def __str__(self) -> str:
        return f"{self.num_waiting} requests wait, at most {self.max_waiting} may; retry after {self.retry_after_s:g} s"


@dataclass(eq=False)
class QueueTokensFull(QueueFull):
    """Too many tokens wait: `num_waiting` and `max_waiting` count tokens. Caught where `QueueFull` is."""

    def __str__(self) -> str:
        return f"{self.num_waiting} tokens wait, at most {self.max_waiting} may; retry after {self.retry_after_s:g} s"


@dataclass(eq=False)
class WaitTooLong(SchedulingError):
    """The request would start too late to be of use, so it is refused on arrival. The ingress says when to return."""

    predicted_wait_s: float
    max_wait_s: float
    retry_after_s: float

    def __str__(self) -> str:
        return (
            f"the expected wait is {self.predicted_wait_s:.0f} s, at most {self.max_wait_s:g} s may be; "
            f"retry after {self.retry_after_s:g} s"
        )


@dataclass(eq=False)
class DeadlineUnmeetable(SchedulingError):
    """The answer could not start in time, so the request is refused on arrival. The ingress catches it."""

    deadline_s: float
    predicted_wait_s: float
    retry_after_s: float

    def __str__(self) -> str:
        return (
            f"deadline_s: {self.deadline_s:g} s cannot be met, the expected wait is {self.predicted_wait_s:g} s; "
            f"retry after {self.retry_after_s:g} s"
        )


@dataclass(eq=False)
class QuotaSpent(SchedulingError):
    """The account was let in for as much as it may be in a minute. The ingress says when there is room again."""

    max_requests_per_min: int | None
    max_tokens_per_min: int | None
    retry_after_s: float

    def __str__(self) -> str:
        limits = ((self.max_requests_per_min, "requests"), (self.max_tokens_per_min, "tokens"))
        most = " and ".join(f"{number} {what}" for number, what in limits if number is not None)
        return (
            f"this key has used up its quota of {most} a minute; there is room for this request in "
            f"{self.retry_after_s:.0f} s"
        )


@dataclass(eq=False)
class LargerThanQuota(SchedulingError):
    """The request alone is larger than its account's tokens of a minute. The ingress catches it; a retry is no use."""

    num_tokens: int
    max_tokens_per_min: int

    def __str__(self) -> str:
        return (
            f"prompt and the longest answer, of all choices, come to {self.num_tokens} tokens; this key may ask for "
            f"{self.max_tokens_per_min} a minute; ask for fewer with max_tokens, n or a shorter prompt"
        )


@dataclass(eq=False)
class DeadlinePassed(SchedulingError):
    """The deadline went by while the request waited. The ingress catches it and ends the request."""

    deadline_s: float
    waited_s: float

    def __str__(self) -> str:
        return f"deadline_s: waited {self.waited_s:g} s of at most {self.deadline_s:g} s"


@dataclass(eq=False)
class NeverFits(SchedulingError):
    """Prompt and output together are larger than any replica can hold. The ingress catches it; a retry is no use."""

    needed_tokens: int
    max_tokens: int

    def __str__(self) -> str:
        return f"prompt and output need {self.needed_tokens} tokens, the largest replica holds {self.max_tokens}"


@dataclass(eq=False)
class LeaseEnded(SchedulingError):
    """The attempt was cancelled, released or expired before. Caught by the ingress: why it ended was said, and lost."""

    lease_id: str

    def __str__(self) -> str:
        return f"lease_id: {self.lease_id!r} has ended; each attempt needs a lease id of its own"
