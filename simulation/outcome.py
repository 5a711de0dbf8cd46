"""Owns how a request can end, and what is remembered of it. Knows nothing of why."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from scheduling.errors import DeadlinePassed, DeadlineUnmeetable, NeverFits, QueueFull, SchedulingError, WaitTooLong


class Outcome(enum.StrEnum):
    ANSWERED = "answered"
    REFUSED = "refused"  # too much waited when it came, or it would have waited for too long
    SHED = "shed"  # it waited, and made room for a higher key
    LATE = "late"  # its deadline passed, or could not be met
    TOO_LARGE = "too_large"  # no replica can hold it


@dataclass(frozen=True, slots=True)
class Ended:
    """One request's end. Times as its client saw them, in seconds; None where there was no answer.

    queue_s: between the arrival at the queue and the grant. tpot_s: None too for an answer of one token.
    num_preemptions: how often it had to give its place up on the way.
    """

    service_class: str
    tenant: str
    outcome: Outcome
    asked_s: float
    ended_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    queue_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    num_preemptions: int = 0

    def output_tokens_until(self, at_s: float) -> float:
        """Of an answer: those that its client had by then, if they came evenly."""
        if self.ttft_s is None:
            return 0.0
        begun_s = self.asked_s + self.ttft_s
        if at_s >= self.ended_s:
            return self.num_output_tokens
        share = (at_s - begun_s) / (self.ended_s - begun_s) if at_s > begun_s else 0.0
        return share * self.num_output_tokens


def outcome_of(error: SchedulingError, *, has_waited: bool) -> Outcome:
    """How a request ends that was given up for this reason."""
    match error:
        case QueueFull() | WaitTooLong():
            return Outcome.SHED if has_waited else Outcome.REFUSED
        case DeadlinePassed() | DeadlineUnmeetable():
            return Outcome.LATE
        case NeverFits():
            return Outcome.TOO_LARGE
        case _:
            raise error
