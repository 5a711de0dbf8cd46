"""Rates that fade."""

from __future__ import annotations

import pytest

from scheduling.faded import FadedRate


def test_a_steady_rate_is_what_it_is_however_it_is_cut() -> None:
    fine, coarse = FadedRate(30.0), FadedRate(30.0)
    for _ in range(500):
        fine.observe(0.2, 20.0)
    coarse.observe(100.0, 10_000.0)
    assert fine.per_s == pytest.approx(100.0)
    assert coarse.per_s == pytest.approx(100.0)


def test_a_rate_follows_the_last_seconds_and_fades() -> None:
    rate = FadedRate(30.0)
    rate.observe(300.0, 30_000.0)
    rate.observe(90.0, 0.0)
    assert rate.per_s is not None
    assert 0 < rate.per_s < 10.0


def test_after_nothing_one_busy_second_does_not_stand_for_the_whole_time() -> None:
    sudden, known = FadedRate(30.0, after_nothing=True), FadedRate(30.0)
    for rate in (sudden, known):
        rate.observe(1.0, 100.0)
    assert known.per_s == pytest.approx(100.0)
    assert sudden.per_s == pytest.approx(100.0 / 30.0, rel=0.05)


def test_nothing_observed_is_no_rate() -> None:
    assert FadedRate(30.0).per_s is None
