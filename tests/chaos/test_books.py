"""The account of a chaos run: every request ends once, and only what breaks connections excuses a broken one."""

from __future__ import annotations

import pytest

from tests.chaos.books import AFTERMATH_S, End, Entry, Event, balanced

KILLED_INGRESS = Event(0, "ingress", at_s=100.0, over_s=110.0)
KILLED_RANK = Event(1, "rank", at_s=100.0, over_s=110.0)


def entry(end: End, sent_s: float = 99.0, ended_s: float = 101.0, name: str = "a") -> Entry:
    return Entry(name, sent_s, ended_s, end)


def test_books_balance_where_each_request_was_answered_refused_or_left() -> None:
    entries = [entry(end, name=end.value) for end in (End.COMPLETE, End.REFUSED, End.LEFT)]
    books = balanced([one.request_id for one in entries], entries, [])
    assert books.balance
    assert books.ends == {End.COMPLETE: 1, End.REFUSED: 1, End.LEFT: 1}


@pytest.mark.parametrize("end", [End.WRONG, End.FAILED, End.SILENT])
def test_no_event_excuses_a_wrong_answer_an_error_or_silence(end: End) -> None:
    books = balanced(["a"], [entry(end)], [KILLED_INGRESS])
    assert not books.balance
    assert [one.end for one in books.lost] == [end]


def test_a_request_without_an_end_is_lost() -> None:
    books = balanced(["a", "b"], [entry(End.COMPLETE)], [])
    assert [one.request_id for one in books.lost] == ["b"]


@pytest.mark.parametrize(
    ("sent_s", "ended_s", "is_excused"),
    [
        (90.0, 99.0, False),  # before it
        (90.0, 101.0, True),
        (101.0, 102.0, True),
        (101.0 + AFTERMATH_S, 102.0 + AFTERMATH_S, False),  # sent when all was well again
    ],
)
def test_a_connection_may_break_with_its_ingress_and_shortly_after(
    sent_s: float, ended_s: float, *, is_excused: bool
) -> None:
    books = balanced(["a"], [entry(End.BROKEN, sent_s, ended_s)], [KILLED_INGRESS])
    assert (len(books.excused), len(books.lost)) == ((1, 0) if is_excused else (0, 1))


def test_a_rank_that_dies_excuses_no_broken_connection() -> None:
    assert not balanced(["a"], [entry(End.BROKEN)], [KILLED_RANK]).balance


def test_two_ends_of_one_request_are_a_fault_of_the_run() -> None:
    with pytest.raises(AssertionError, match="a ended twice"):
        balanced(["a"], [entry(End.COMPLETE), entry(End.COMPLETE)], [])
