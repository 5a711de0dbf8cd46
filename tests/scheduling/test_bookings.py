"""What refused clients were promised: kept for those who come in time, and for nobody twice."""

from __future__ import annotations

import pytest

from scheduling.bookings import EARLY_S, LATE_S, MAX_BOOKINGS, Bookings, Identity

ONE = Identity("default", 0, "one", 20)
OTHER = Identity("default", 5, "other", 20)


def booked(*wait_s: float, identity: Identity = ONE) -> Bookings:
    bookings = Bookings()
    for each in wait_s:
        bookings.make(identity, each, 30, now_s=100)
    return bookings


@pytest.mark.parametrize(
    ("now_s", "kept"),
    [(100, False), (109.9 - EARLY_S, False), (110 - EARLY_S, True), (110 + LATE_S, True), (112 + LATE_S, False)],
)
def test_a_promise_is_kept_around_its_time(now_s: float, kept: bool) -> None:
    assert booked(10).claim(ONE, now_s) is kept


def test_a_promise_is_kept_once_and_to_nobody_else() -> None:
    bookings = booked(10)
    assert not bookings.claim(OTHER, 110)
    assert bookings.claim(ONE, 110)
    assert not bookings.claim(ONE, 110)


def test_equal_requests_have_a_promise_each() -> None:
    bookings = booked(10, 12)
    assert [bookings.claim(ONE, 110), bookings.claim(ONE, 110), bookings.claim(ONE, 112)] == [True, False, True]


def test_who_comes_with_one_that_is_due_need_not_be_due_itself_but_must_have_been_promised_a_place() -> None:
    bookings = booked(10, 40)
    assert bookings.claim(ONE, 110)
    assert [bookings.claim(ONE, 110, is_with_another=True) for _ in range(2)] == [True, False]


def test_equal_requests_have_the_earliest_of_their_promises_kept_first() -> None:
    bookings = booked(60, 10)
    assert [bookings.claim(ONE, 110), bookings.claim(ONE, 110), bookings.claim(ONE, 160)] == [True, False, True]


def test_what_is_promised_counts_by_priority_and_by_the_share_that_comes_back() -> None:
    bookings = booked(*[1.0] * 200)
    bookings.make(OTHER, 50, 70, now_s=100)
    promised = [bookings.num_tokens_from("default", priority) for priority in (0, 1)]
    assert promised == [200 * 30 + 70, 70]
    assert [bookings.num_from("default", priority) for priority in (0, 1, 6)] == [201, 1, 0]
    assert bookings.num_tokens_from("another", 0) == 0
    bookings.expire(120)
    assert len(bookings) == 1
    assert bookings.num_tokens_from("default", 0) < 0.1 * 70
    assert bookings.num_from("default", 0) < 0.1


def test_no_more_is_promised_than_can_be_remembered() -> None:
    bookings = Bookings()
    for _ in range(MAX_BOOKINGS + 10):
        bookings.make(ONE, 10, 1, now_s=0)
    assert len(bookings) == MAX_BOOKINGS


class Counted(float):
    """A number that counts how often one like it is compared."""

    num_compared = 0

    def __lt__(self, other: float) -> bool:
        Counted.num_compared += 1
        return float(self) < float(other)

    def __ge__(self, other: float) -> bool:
        return not self < other

    def __add__(self, other: float) -> Counted:
        return Counted(float(self) + float(other))

    __radd__ = __add__


def test_many_promises_to_equal_requests_make_none_of_them_slow() -> None:
    bookings = Bookings()
    for place in range(4_096):
        bookings.make(ONE, Counted(10 + place), 1, now_s=0)
    Counted.num_compared = 0
    assert not bookings.claim(ONE, 1)
    assert bookings.claim(ONE, 10)
    assert Counted.num_compared < 100


def test_priorities_count_by_whole_levels_so_that_many_of_them_make_nobody_slow() -> None:
    bookings = Bookings()
    for place in range(4_096):
        bookings.make(Identity("default", Counted(place / 1024 - 2), str(place), 20), 10, 3, now_s=0)
    Counted.num_compared = 0
    assert [bookings.num_from("default", priority) for priority in (-2, -1, 0, 1, 2)] == [4096, 3072, 2048, 1024, 0]
    assert bookings.num_tokens_from("default", -0.5) == 3 * 3072
    assert Counted.num_compared < 100
    bookings.expire(1000)
    assert bookings.num_tokens_from("default", -100) == 0


@pytest.mark.parametrize(
    ("tokens_per_s", "in_the_way"),
    [(0, 90), (1, 80), (2, 70), (3, 60), (10, 0)],
    ids=["nothing is served", "all three in ten seconds", "two of three", "the next to the last", "all are out of it"],
)
def test_what_is_served_before_a_promise_is_due_is_out_of_a_newcomers_way(
    tokens_per_s: float, in_the_way: float
) -> None:
    bookings = booked(10, 10, 10)
    assert bookings.num_tokens_in_the_way("default", 0, tokens_per_s, 100) == in_the_way


def test_the_promise_that_would_be_kept_the_latest_is_the_one_that_counts() -> None:
    bookings = booked(1, 2, 30)
    assert bookings.num_tokens_in_the_way("default", 0, 10, 100) == 60 - 2 * 10
    assert bookings.num_tokens_in_the_way("default", 0, 10, 103) == 60, "two are due and have not come yet"


def test_promises_of_higher_levels_count_in_full_and_those_of_lower_ones_not_at_all() -> None:
    bookings = booked(50, identity=OTHER)
    assert bookings.num_tokens_in_the_way("default", 0, 10, 100) == 30
    assert bookings.num_tokens_in_the_way("default", 6, 10, 100) == 0


def test_the_times_that_promises_are_due_are_told_apart_as_far_as_it_matters() -> None:
    bookings = booked(*(float(wait_s) for wait_s in range(1, 3_601)))
    [promised] = bookings._promised["default"].values()
    assert len(promised.by_due) <= 128
    assert sum(promised.by_due.values()) == promised.num_tokens == 30 * 3_600
    bookings.expire(10_000)
    assert not bookings._promised
