"""Turns rounds of answers into the numbers of a report. Pure arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load import LevelRun


@dataclass(frozen=True, slots=True)
class LevelSummary:
    """One number of clients over all rounds. Latencies are None where no answer gives any.

    output_tokens_per_s: the median round. tokens_per_event: 1 where each gap is that of one token.
    """

    num_clients: int
    output_tokens_per_s: float
    output_tokens_per_s_by_round: list[float]
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    itl_p50_ms: float | None
    itl_p99_ms: float | None
    tokens_per_event: float | None
    mean_prompt_tokens: float | None
    num_answers: int
    num_failed: int


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Linear between the two nearest ranks; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def alternating_rounds(levels: Sequence[int], num_rounds: int) -> list[list[int]]:
    """Every level once a round, forwards and backwards in turn, so that a drift of the machine meets all alike."""
    return [list(levels) if index % 2 == 0 else list(reversed(levels)) for index in range(num_rounds)]


def summarise(runs: Sequence[LevelRun]) -> list[LevelSummary]:
    """One summary for each number of clients, fewest first."""
    levels = sorted({run.num_clients for run in runs})
    return [_summary(level, [run for run in runs if run.num_clients == level]) for level in levels]


def _summary(num_clients: int, runs: Sequence[LevelRun]) -> LevelSummary:
    answers = [answer for run in runs for answer in run.answers]
    ttfts_ms = [answer.ttft_s * 1000 for answer in answers]
    gaps_ms = [gap_s * 1000 for answer in answers for gap_s in answer.gaps_s]
    rates = [run.output_tokens_per_s for run in runs]
    num_events = sum(len(answer.text_times_s) for answer in answers)
    return LevelSummary(
        num_clients=num_clients,
        output_tokens_per_s=statistics.median(rates),
        output_tokens_per_s_by_round=rates,
        ttft_p50_ms=percentile(ttfts_ms, 50),
        ttft_p95_ms=percentile(ttfts_ms, 95),
        itl_p50_ms=percentile(gaps_ms, 50),
        itl_p99_ms=percentile(gaps_ms, 99),
        tokens_per_event=sum(answer.num_output_tokens for answer in answers) / num_events if num_events else None,
        mean_prompt_tokens=statistics.fmean(a.num_prompt_tokens for a in answers) if answers else None,
        num_answers=len(answers),
        num_failed=sum(len(run.failures) for run in runs),
    )
