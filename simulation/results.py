"""Owns what a run of the twin comes to: figures by class and tenant, of the order, of the replicas. Draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simulation.account import Group

_CURVE_POINTS = 100


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds; None where nothing was measured."""

    p50_s: float | None
    p95_s: float | None
    p99_s: float | None

    @classmethod
    def of(cls, times_s: Iterable[float]) -> Times:
        ordered = sorted(times_s)
        return cls(*(percentile(ordered, percent) for percent in (50, 95, 99)))


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """One class, one tenant, or all. Each request is counted once, by its end.

    outcomes: how many ended in each way. queue: from the arrival at the queue to the grant. goodput_per_s: answers that
    met both objectives of their class. output_tokens: of whole answers, as many as came before the load's end.
    num_preemptions: places given up.
    ttft_curve: TTFT by percent of the answers, from 0 to 100.
    """

    name: str
    num_requests: int
    outcomes: dict[str, int]
    ttft: Times
    tpot: Times
    queue: Times
    num_good: int
    goodput_per_s: float
    prompt_tokens: int
    output_tokens: float
    output_tokens_per_s: float
    num_preemptions: int
    ttft_curve: list[float]


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """Every grant, held against all who waited. smallest_slack_s: how close the bound came; None if nobody waited."""

    num_checked: int
    num_violations: int
    smallest_slack_s: float | None


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """What the replicas did.

    most_replicas: that were there at a time. busy_share: of their time in a step. slot_share: of their slots, of all
    their time. num_recomputed_tokens: whose KV had been there, and was lost to a preemption.
    """

    most_replicas: int
    replica_hours: float
    busy_share: float
    slot_share: float
    num_steps: int
    num_preemptions_by_swap: int
    num_preemptions_by_recompute: int
    num_recomputed_tokens: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What there was at one moment of the run."""

    at_s: float
    num_waiting: int
    num_running: int
    num_parked: int
    num_replicas: int


@dataclass(frozen=True, slots=True)
class Figures:
    """One scenario's run. duration_s: of the load, all rounds together; from the first request to the last answer where
    the load has no end of its own."""

    name: str
    num_rounds: int
    duration_s: float
    total: GroupFigures
    classes: list[GroupFigures]
    tenants: list[GroupFigures]
    order: OrderFigures
    fleet: FleetFigures
    moments: list[Moment]


def group_figures(name: str, group: Group, duration_s: float) -> GroupFigures:
    ttfts_s = sorted(group.ttfts_s)
    return GroupFigures(
        name=name,
        num_requests=group.num_requests,
        outcomes={outcome.value: number for outcome, number in sorted(group.outcomes.items())},
        ttft=Times.of(ttfts_s),
        tpot=Times.of(group.tpots_s),
        queue=Times.of(group.queues_s),
        num_good=group.num_good,
        goodput_per_s=_rate(group.num_good, duration_s),
        prompt_tokens=group.prompt_tokens,
        output_tokens=group.output_tokens,
        output_tokens_per_s=_rate(group.output_tokens, duration_s),
        num_preemptions=group.num_preemptions,
        ttft_curve=curve(ttfts_s),
    )


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Linear between the two nearest ranks; None of nothing."""
    if not ordered:
        return None
    rank = (len(ordered) - 1) * percent / 100
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def curve(ordered: Sequence[float]) -> list[float]:
    """The values at 0, 1, ... 100 percent; nothing of nothing."""
    points = (percentile(ordered, 100 * place / _CURVE_POINTS) for place in range(_CURVE_POINTS + 1))
    return [point for point in points if point is not None]


def _rate(number: float, duration_s: float) -> float:
    return number / duration_s if duration_s > 0 else 0.0
