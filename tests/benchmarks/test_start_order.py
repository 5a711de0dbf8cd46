"""What headers say of starts, and that a start out of turn is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.start_order import KEY_HEADER, QUEUE_HEADER, Depth, HeadersMissing, Start, depth, num_inversions
from scheduling.score import ScorePolicy, Stamp

NOON_S = 1_700_000_000.0
tenths = st.integers(0, 40).map(lambda number: number / 10)  # far coarser than what can be told apart
starts = st.builds(
    lambda key, registered_s, waited_s: Start(key, registered_s, registered_s + waited_s),
    st.integers(-5, 5).map(float),
    tenths,
    tenths,
)


def headers(stamp: Stamp, queue_s: float) -> dict[str, str]:
    """As the service writes them, with the shipped weights."""
    return {KEY_HEADER: f"{ScorePolicy().key(stamp):.6f}", QUEUE_HEADER: f"{queue_s * 1000:.1f}"}


def test_key_and_wait_give_both_instants_back_within_what_the_headers_resolve() -> None:
    start = Start.of(7, headers(Stamp(7, NOON_S + 0.123456), queue_s=2.5))
    assert start.registered_s == pytest.approx(NOON_S + 0.123456, rel=0, abs=6e-6)
    assert start.granted_s == pytest.approx(NOON_S + 2.623456, rel=0, abs=6e-5)


@pytest.mark.parametrize("without", [KEY_HEADER, QUEUE_HEADER])
def test_an_answer_without_a_header_is_an_error_that_names_it(without: str) -> None:
    given = headers(Stamp(0, NOON_S), queue_s=0)
    del given[without]
    with pytest.raises(HeadersMissing, match=f"{without}: expected a number, got None"):
        Start.of(0, given)


def test_a_grant_that_passes_over_a_higher_key_is_an_inversion() -> None:
    assert num_inversions([Start(1, 0.0, 5.0), Start(2, 1.0, 6.0)]) == 1


def test_it_is_none_if_the_higher_key_came_later_or_was_granted_before() -> None:
    assert num_inversions([Start(1, 0.0, 5.0), Start(2, 5.5, 6.0)]) == 0
    assert num_inversions([Start(1, 0.0, 5.0), Start(2, 1.0, 4.0)]) == 0


def test_equal_keys_and_grants_of_one_decision_are_in_order() -> None:
    assert num_inversions([Start(1, 0.0, 5.0), Start(1, 1.0, 6.0)]) == 0
    assert num_inversions([Start(1, 0.0, 5.0), Start(2, 1.0, 5.0)]) == 0


@pytest.mark.parametrize(("apart_s", "num_found"), [(1e-4, 0), (2e-4, 1)])
def test_what_the_headers_cannot_tell_apart_is_no_inversion(apart_s: float, num_found: int) -> None:
    assert num_inversions([Start(1, 0.0, 5.0), Start(2, 1.0, 5.0 + apart_s)]) == num_found
    assert num_inversions([Start(1, 0.0, 5.0), Start(2, 5.0 - apart_s, 9.0)]) == num_found


def test_each_grant_out_of_turn_counts_once_however_many_it_passed() -> None:
    better = [Start(2, 0.0, 9.0), Start(3, 0.0, 8.0)]
    assert num_inversions([Start(1, 0.0, 5.0), Start(1, 0.0, 6.0), *better]) == 2


@given(st.lists(starts, max_size=30))
def test_the_sweep_finds_what_comparing_all_pairs_finds(given: list[Start]) -> None:
    def passes_over(one: Start, other: Start) -> bool:
        return (
            other.key > one.key and other.registered_s < one.granted_s - 0.05 and other.granted_s > one.granted_s + 0.05
        )

    expected = sum(any(passes_over(one, other) for other in given) for one in given)
    assert num_inversions(given, resolution_s=0.05) == expected


def test_depth_is_who_waited_at_each_grant_without_the_one_granted() -> None:
    assert depth([Start(3, 0.0, 5.0), Start(2, 1.0, 6.0), Start(1, 2.0, 7.0)]) == Depth(1, 2)
    assert depth([]) == Depth(0, 0)
