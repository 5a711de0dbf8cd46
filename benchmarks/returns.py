"""Owns how honest a refusal's Retry-After was, judged by what the service admitted afterwards. Pure arithmetic."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.attempt import Attempt, Outcome


@dataclass(frozen=True, slots=True)
class Returns:
    """What became of clients that came back when they were told to.

    num_told: first refusals with a Retry-After. num_returned: those whose client came back. share_admitted: of these,
    the share that was not refused again at its first return; None where nobody came back.
    median_overestimate: predicted over actual wait, of the `num_judged` refusals where the actual one can be known;
    above 1 the service sent its clients away for longer than it had to.
    """

    num_told: int
    num_returned: int
    share_admitted: float | None
    num_judged: int
    median_overestimate: float | None


def returns_of(rounds: Sequence[Sequence[Outcome]]) -> Returns:
    """Over rounds that were judged each for itself: what is admitted in one says nothing of another."""
    outcomes = [each for of_round in rounds for each in of_round]
    returned = [each.attempts[1] for each in outcomes if len(each.attempts) > 1]
    overestimates = [ratio for of_round in rounds for ratio in _overestimates(of_round)]
    return Returns(
        num_told=sum(each.attempts[0].returns_at_s is not None for each in outcomes),
        num_returned=len(returned),
        share_admitted=sum(map(_is_admitted, returned)) / len(returned) if returned else None,
        num_judged=len(overestimates),
        median_overestimate=statistics.median(overestimates) if overestimates else None,
    )


def _overestimates(outcomes: Sequence[Outcome]) -> Iterator[float]:
    """The wait was over at the latest when the service admitted a request of no higher priority that was sent after
    the refusal had come. So the actual wait is known from above, and each ratio from below."""
    admitted = sorted(
        (tried.sent_s, each.arrival.priority) for each in outcomes for tried in each.attempts if _is_admitted(tried)
    )
    for each in outcomes:
        for tried in each.attempts:
            returns_at_s = tried.returns_at_s
            if returns_at_s is None:
                continue
            admitted_s = _next_admission_s(admitted, tried.ended_s, each.arrival.priority)
            if admitted_s is not None:
                yield (returns_at_s - tried.ended_s) / (admitted_s - tried.ended_s)


def _next_admission_s(admitted: Sequence[tuple[float, float]], after_s: float, priority: float) -> float | None:
    begin = bisect.bisect_right(admitted, after_s, key=lambda each: each[0])
    return next((sent_s for sent_s, other in admitted[begin:] if other <= priority), None)


def _is_admitted(attempt: Attempt) -> bool:
    """An answer began to come, and no refusal."""
    return isinstance(attempt.result, list)
