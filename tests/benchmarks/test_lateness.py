"""Whether the sender kept to its schedule."""

from __future__ import annotations

import pytest

from benchmarks.attempt import Refusal
from benchmarks.lateness import lateness
from simulation.objectives import Objectives
from tests.benchmarks.factories import OBJECTIVES, make_answer, make_attempt, make_outcome


def test_lateness_is_reported_at_its_median_its_99th_percentile_and_its_worst() -> None:
    outcomes = [make_outcome(make_answer(1.0), make_attempt(5.0, late_s=ms / 1000)) for ms in range(101)]

    late = lateness(outcomes, OBJECTIVES.values())

    assert (late.p50_ms, late.p99_ms, late.max_ms) == pytest.approx((50, 99, 100))
    assert not late.is_within_limit


def test_a_return_that_is_late_counts_too() -> None:
    attempts = make_attempt(refused=429, retry_after_s=1.0), make_attempt(1.0, late_s=0.5)

    assert lateness([make_outcome(Refusal(429, 1.0), *attempts)], OBJECTIVES.values()).max_ms == pytest.approx(500)


def test_p99_may_be_ten_milliseconds_or_a_hundredth_of_the_tightest_ttft_whichever_is_less() -> None:
    def limit_ms(*ttfts_s: float) -> float:
        return lateness([], [Objectives(ttft_s, 1.0) for ttft_s in ttfts_s]).limit_ms

    assert limit_ms(60.0, 5.0) == pytest.approx(10)
    assert limit_ms(60.0, 0.2) == pytest.approx(2)


def test_a_sender_within_the_limit_is_on_time() -> None:
    outcomes = [make_outcome(make_answer(1.0), make_attempt(5.0, late_s=0.001))]

    assert lateness(outcomes, OBJECTIVES.values()).is_within_limit
