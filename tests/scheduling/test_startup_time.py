"""The longest start of the last few."""

from __future__ import annotations

from scheduling.startup_time import STARTUP_KEPT, StartupTime


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
