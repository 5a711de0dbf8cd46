"""Which ids are remembered, and for how long."""

from __future__ import annotations

from scheduling.recent_ids import RecentIds


def test_the_leases_that_ended_last_are_remembered_and_older_ones_make_room() -> None:
    ended = RecentIds(max_remembered=2)
    for lease_id in ("a", "b", "c"):
        ended.add(lease_id)
    assert ["a" in ended, "b" in ended, "c" in ended] == [False, True, True]


def test_a_lease_that_is_heard_of_again_counts_as_recent() -> None:
    ended = RecentIds(max_remembered=2)
    for lease_id in ("a", "b", "a", "c"):
        ended.add(lease_id)
    assert ["a" in ended, "b" in ended, "c" in ended] == [True, False, True]
