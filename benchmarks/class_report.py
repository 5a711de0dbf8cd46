"""Owns what a run gave each class and each tenant: times, refusals, goodput. Pure arithmetic over outcomes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.answers import Answer
from benchmarks.attempt import Outcome, Refusal
from benchmarks.load import Failure
from benchmarks.summary import percentile
from simulation.objectives import Objectives


@dataclass(frozen=True, slots=True)
class Times:
    """Percentiles of those requests that were answered; None where none was."""

    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @classmethod
    def of(cls, times_s: Sequence[float]) -> Times:
        p50, p95, p99 = (percentile(times_s, percent) for percent in (50, 95, 99))
        return cls(_ms(p50), _ms(p95), _ms(p99))


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """Refusals of one status, those of returning clients among them. Retry-After: of those that told one."""

    status: int
    number: int
    retry_after_p50_s: float | None
    retry_after_max_s: float | None


@dataclass(frozen=True, slots=True)
class GroupReport:
    """One class, one tenant, or all.

    offered = completed + refused + failed: each request is counted once, by its end. refusals: every single one, also
    of requests that came back and were answered. goodput_per_s: requests that met all objectives of their class.
    """

    name: str
    offered: int
    completed: int
    refused: int
    failed: int
    refusals: list[RefusalCount]
    ttft: Times
    tpot: Times
    num_in_time: int
    goodput_per_s: float
    mean_prompt_tokens: float | None
    mean_output_tokens: float | None


def group_report(
    name: str, outcomes: Sequence[Outcome], objectives: Mapping[str, Objectives], duration_s: float
) -> GroupReport:
    """duration_s: of the schedules together that these are the outcomes of. objectives: by class."""
    answers = [each.result for each in outcomes if isinstance(each.result, Answer)]
    num_in_time = sum(_is_in_time(each, objectives) for each in outcomes)
    return GroupReport(
        name=name,
        offered=len(outcomes),
        completed=len(answers),
        refused=sum(isinstance(each.result, Refusal) for each in outcomes),
        failed=sum(isinstance(each.result, Failure) for each in outcomes),
        refusals=_refusal_counts(outcomes),
        ttft=Times.of([answer.ttft_s for answer in answers]),
        tpot=Times.of([tpot_s for answer in answers if (tpot_s := answer.tpot_s) is not None]),
        num_in_time=num_in_time,
        goodput_per_s=num_in_time / duration_s,
        mean_prompt_tokens=_mean(answer.num_prompt_tokens for answer in answers),
        mean_output_tokens=_mean(answer.num_output_tokens for answer in answers),
    )


def by_class(outcomes: Sequence[Outcome], objectives: Mapping[str, Objectives], duration_s: float) -> list[GroupReport]:
    """Every class of `objectives`, in its order, also one that nobody asked for."""
    return [
        group_report(name, _of(outcomes, lambda each: each.arrival.service_class, name), objectives, duration_s)
        for name in objectives
    ]


def by_tenant(
    outcomes: Sequence[Outcome], objectives: Mapping[str, Objectives], duration_s: float
) -> list[GroupReport]:
    """In order of name; nothing where there is only one."""
    tenants = sorted({each.arrival.tenant for each in outcomes})
    if len(tenants) < 2:
        return []
    return [
        group_report(name, _of(outcomes, lambda each: each.arrival.tenant, name), objectives, duration_s)
        for name in tenants
    ]


def _of(outcomes: Sequence[Outcome], key: Callable[[Outcome], str], name: str) -> list[Outcome]:
    return [each for each in outcomes if key(each) == name]


def _is_in_time(outcome: Outcome, objectives: Mapping[str, Objectives]) -> bool:
    if not isinstance(outcome.result, Answer):
        return False
    answer = outcome.result
    return objectives[outcome.arrival.service_class].are_met(answer.ttft_s, answer.tpot_s)


def _refusal_counts(outcomes: Sequence[Outcome]) -> list[RefusalCount]:
    refusals = [tried.result for each in outcomes for tried in each.attempts if isinstance(tried.result, Refusal)]
    return [
        _refusal_count(status, [refusal for refusal in refusals if refusal.status == status])
        for status in sorted({refusal.status for refusal in refusals})
    ]


def _refusal_count(status: int, refusals: Sequence[Refusal]) -> RefusalCount:
    told_s = [refusal.retry_after_s for refusal in refusals if refusal.retry_after_s is not None]
    return RefusalCount(status, len(refusals), percentile(told_s, 50), max(told_s, default=None))


def _mean(values: Iterable[int]) -> float | None:
    numbers = list(values)
    return statistics.fmean(numbers) if numbers else None


def _ms(time_s: float | None) -> float | None:
    return None if time_s is None else time_s * 1000
