"""Rates that fade, and the longest start of the last few."""

from __future__ import annotations

import pytest

from scheduling.rates import MIN_RELEASES, STARTUP_KEPT, FadedRate, ServiceRate, StartupTime


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
    assert 0 < rate.per_s < 10.0


def test_after_nothing_one_busy_second_does_not_stand_for_the_whole_time() -> None:
    sudden, known = FadedRate(30.0, after_nothing=True), FadedRate(30.0)
    for rate in (sudden, known):
        rate.observe(1.0, 100.0)
    assert known.per_s == pytest.approx(100.0)
    assert sudden.per_s == pytest.approx(100.0 / 30.0, rel=0.05)


def test_nothing_observed_is_no_rate() -> None:
    assert FadedRate(30.0).per_s == 0.0


def test_a_service_rate_is_known_once_enough_requests_have_ended() -> None:
    rate = ServiceRate()
    rate.observe(1.0, 100.0, int(MIN_RELEASES) - 1)
    assert rate.per_s is None
    rate.observe(1.0, 100.0, 10)
    assert rate.per_s == pytest.approx(100.0)


def test_a_replica_that_serves_nothing_has_no_rate() -> None:
    rate = ServiceRate()
    rate.observe(1.0, 0.0, 100)
    assert rate.per_s is None


def test_a_longer_start_counts_at_once_and_is_forgotten_start_by_start() -> None:
    startup = StartupTime()
    startup.see({"a": None})
    assert startup.longest_s is None
    startup.see({"a": None, "b": 10.0})
    startup.see({"a": None, "b": 10.0, "c": 40.0})
    assert startup.longest_s == 40.0
    startup.see({"d": 10.0})
    assert startup.longest_s == 40.0 * STARTUP_KEPT
    startup.see({"d": 10.0})
    assert startup.longest_s == 40.0 * STARTUP_KEPT  # the same start, seen again
