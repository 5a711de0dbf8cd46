"""Owns whether the sender itself kept to its schedule. Knows nothing of what was answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.attempt import Outcome
from benchmarks.summary import percentile
from simulation.objectives import Objectives

_MOST_S = 0.010
_SHARE = 0.01  # of the tightest objective for TTFT


@dataclass(frozen=True, slots=True)
class Lateness:
    """From when a request was due, or due to come back, to when it was sent. limit_ms: what p99 may be."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    limit_ms: float

    @property
    def is_within_limit(self) -> bool:
        return self.p99_ms <= self.limit_ms


def lateness(outcomes: Sequence[Outcome], objectives: Iterable[Objectives]) -> Lateness:
    """Nothing sent is nothing late."""
    late_s = [tried.lateness_s for each in outcomes for tried in each.attempts]
    limit_s = min(_MOST_S, _SHARE * min(each.ttft_s for each in objectives))
    p50_s, p99_s = percentile(late_s, 50) or 0.0, percentile(late_s, 99) or 0.0
    return Lateness(p50_s * 1000, p99_s * 1000, max(late_s, default=0.0) * 1000, limit_s * 1000)
