"""What happens when."""

from __future__ import annotations

from simulation.calendar import Calendar


def test_events_happen_in_order_of_time_then_of_being_put_in() -> None:
    calendar, seen = Calendar(), []
    for at_s, name in ((2.0, "c"), (1.0, "a"), (1.0, "b")):
        calendar.at(at_s, seen.append, name)
    while len(calendar):
        calendar.run_next()
    assert (seen, calendar.now_s) == (["a", "b", "c"], 2.0)


def test_what_is_put_in_too_late_happens_now() -> None:
    calendar, seen = Calendar(), []
    calendar.at(5.0, lambda name: calendar.at(1.0, seen.append, name), "late")
    calendar.run_next()
    calendar.run_next()
    assert (seen, calendar.now_s) == (["late"], 5.0)
