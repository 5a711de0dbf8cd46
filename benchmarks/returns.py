"""Owns how honest a refusal's Retry-After was, judged by whom the service admitted when. Pure arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.answers import Answer
from benchmarks.attempt import Attempt, Outcome, Refusal


@dataclass(frozen=True, slots=True)
class Returns:
    """What became of clients that were told to come back.

    num_told: requests whose first answer was a refusal with a Retry-After. num_returned: those whose client came back.
    share_admitted: of these, the share that was not refused again at its first return; None where nobody came back.
    median_overestimate: predicted over actual wait, of the `num_judged` requests where the actual one can be known;
    above 1 the service sent its clients away for longer than it had to.
    """

    num_told: int
    num_returned: int
    share_admitted: float | None
    num_judged: int
    median_overestimate: float | None


def returns_of(rounds: Sequence[Sequence[Outcome]]) -> Returns:
    """Over rounds that are judged each for itself: who is admitted in one says nothing of another."""
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
    for name in dict.fromkeys(each.arrival.service_class for each in outcomes):
        yield from _overestimates_of_class([each for each in outcomes if each.arrival.service_class == name])


def _overestimates_of_class(outcomes: Sequence[Outcome]) -> Iterator[float]:
    """Had the class been admitted in order of arrival, its n-th request would have had its n-th admission.

    To look for the next admission after a refusal instead would count one freed place for all who were refused before
    it.
    """
    admissions_s = sorted(tried.sent_s for each in outcomes for tried in each.attempts if _is_admitted(tried))
    for outcome, admission_s in zip(_by_arrival(outcomes), admissions_s, strict=False):
        first = outcome.attempts[0]
        if first.returns_at_s is not None and admission_s > first.ended_s:
            yield (first.returns_at_s - first.ended_s) / (admission_s - first.ended_s)


def _by_arrival(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda each: each.due_s)


def _is_admitted(attempt: Attempt[Answer]) -> bool:
    """Nothing said that there was no room."""
    return not isinstance(attempt.result, Refusal)
