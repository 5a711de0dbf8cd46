"""Owns what all rounds together say of one service, and of two beside each other. Pure arithmetic."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.class_report import GroupReport, Times, by_class, by_tenant, group_report
from benchmarks.lateness import Lateness, lateness
from benchmarks.load import Failure
from benchmarks.mixed_rounds import SideRound
from benchmarks.open_loop import PhaseRun
from benchmarks.peers.pairs import Comparison
from benchmarks.report import distinct_reasons
from benchmarks.returns import Returns, returns_of
from simulation.objectives import Objectives


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A class's TTFT under load over the same percentile of its own TTFT when idle."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, load: Times, idle: Times) -> Slowdown:
        return cls(_ratio(load.p50_ms, idle.p50_ms), _ratio(load.p95_ms, idle.p95_ms), _ratio(load.p99_ms, idle.p99_ms))


@dataclass(frozen=True, slots=True)
class SideReport:
    """One service over all rounds.

    idle: the most urgent class alone. slowdown: of that class. output_tokens_per_s: that came while the schedule
    lasted; the median round. returns: None where clients did not come back. failures: each reason once.

    urgent_late_steps: by how much that class's p95 under load exceeds its p95 alone, in steps of the engine as they
    were then: in medians of all TPOTs. jain_index: of the tenants' output tokens while the schedule lasted, 1 where all
    got the same (Jain, Chiu, Hawe: "A Quantitative Measure of Fairness", 1984); None where there is one tenant.
    """

    name: str
    lateness: Lateness
    idle: GroupReport
    slowdown: Slowdown
    classes: list[GroupReport]
    tenants: list[GroupReport]
    total: GroupReport
    output_tokens_per_s: float
    output_tokens_per_s_by_round: list[float]
    urgent_late_steps: float | None
    jain_index: float | None
    returns: Returns | None
    failures: list[str]

    @property
    def is_valid(self) -> bool:
        """The load was the one that was planned."""
        return self.lateness.is_within_limit


def side_report(
    name: str, rounds: Sequence[SideRound], objectives: Mapping[str, Objectives], idle_class: str, comes_back: bool
) -> SideReport:
    """objectives: by class. idle_class: the one that was alone in the idle phases."""
    loads = [each.load for each in rounds]
    idle_outcomes = [outcome for each in rounds for outcome in each.idle.outcomes]
    outcomes = [outcome for load in loads for outcome in load.outcomes]
    duration_s = sum(load.duration_s for load in loads)
    idle = group_report(idle_class, idle_outcomes, objectives, sum(each.idle.duration_s for each in rounds))
    classes = by_class(outcomes, objectives, duration_s)
    rates = [load.output_tokens / load.duration_s for load in loads]
    total = group_report("all", outcomes, objectives, duration_s)
    most_urgent = next(each for each in classes if each.name == idle_class)
    return SideReport(
        name=name,
        lateness=lateness([*idle_outcomes, *outcomes], objectives.values()),
        idle=idle,
        slowdown=Slowdown.of(most_urgent.ttft, idle.ttft),
        classes=classes,
        tenants=by_tenant(outcomes, objectives, duration_s),
        total=total,
        output_tokens_per_s=statistics.median(rates),
        output_tokens_per_s_by_round=rates,
        urgent_late_steps=_late_steps(most_urgent.ttft.p95_ms, idle.ttft.p95_ms, total.tpot.p50_ms),
        jain_index=_jain_index(loads),
        returns=returns_of([load.outcomes for load in loads]) if comes_back else None,
        failures=distinct_reasons(
            [each.result.reason for each in [*idle_outcomes, *outcomes] if isinstance(each.result, Failure)]
        ),
    )


def compared(ours: Sequence[SideReport], peers: Sequence[SideReport]) -> list[Comparison]:
    """Ours over the peer's, by round. Each report is of one round; a round in which either side has no figure, or the
    peer's is 0, is left out of that measure."""
    figures = [(_figures(own), _figures(other)) for own, other in zip(ours, peers, strict=True)]
    found = []
    for measure in figures[0][0]:
        pairs = [(own[measure], other[measure]) for own, other in figures]
        whole = [(own, other) for own, other in pairs if own is not None and other]
        if whole:
            found.append(Comparison(measure, [own for own, _ in whole], [other for _, other in whole]))
    return found


def _figures(report: SideReport) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for each in report.classes:
        figures[f"{each.name}: TTFT p50, ms"] = each.ttft.p50_ms
        figures[f"{each.name}: TTFT p95, ms"] = each.ttft.p95_ms
        figures[f"{each.name}: TTFT p99, ms"] = each.ttft.p99_ms
        figures[f"{each.name}: TPOT p50, ms"] = each.tpot.p50_ms
        figures[f"{each.name}: goodput, requests/s"] = each.goodput_per_s
    figures["all: goodput, requests/s"] = report.total.goodput_per_s
    figures["all: output tokens/s"] = report.output_tokens_per_s
    return figures


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


def _late_steps(load_ms: float | None, idle_ms: float | None, step_ms: float | None) -> float | None:
    return _ratio(load_ms - idle_ms, step_ms) if load_ms is not None and idle_ms is not None else None


def _jain_index(loads: Sequence[PhaseRun]) -> float | None:
    """(sum of x)^2 / (n * sum of x^2), over all rounds together."""
    served: Counter[str] = Counter()
    for load in loads:
        served.update(load.output_tokens_by_tenant())
    if len(served) < 2 or not served.total():
        return None
    return float(served.total() ** 2 / (len(served) * sum(tokens * tokens for tokens in served.values())))
