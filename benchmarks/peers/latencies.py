"""Turns what the clients of one side saw into its latencies. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load import LevelRun
from benchmarks.summary import percentile


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds; None of nothing."""

    p50: float | None
    p99: float | None

    def __str__(self) -> str:
        return " / ".join("-" if each is None else f"{each:.1f}" for each in (self.p50, self.p99))


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of one number of clients, over all turns: to each answer's first text, and from each text to the next."""

    num_clients: int
    ttft_ms: Spread
    itl_ms: Spread


def latencies(runs: Sequence[LevelRun]) -> list[Latencies]:
    """Fewest clients first."""
    levels = sorted({run.num_clients for run in runs})
    return [_of_level(level, [run for run in runs if run.num_clients == level]) for level in levels]


def _of_level(num_clients: int, runs: Sequence[LevelRun]) -> Latencies:
    answers = [answer for run in runs for answer in run.answers]
    return Latencies(
        num_clients,
        _spread([answer.ttft_s for answer in answers]),
        _spread([gap_s for answer in answers for gap_s in answer.gaps_s]),
    )


def _spread(seconds: Sequence[float]) -> Spread:
    values = [each * 1000 for each in seconds]
    return Spread(percentile(values, 50), percentile(values, 99))
