"""Quotas of a minute: what an account may ask for, when there is room again, what is given back and what is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.errors import LargerThanQuota, QuotaSpent
from scheduling.quotas import NUM_SLOTS, QuotaClaim, QuotaLimits, Quotas

MINUTE_S = 60.0
LIMIT = 1_000


def quotas(max_requests: int | None = None, max_tokens: int | None = LIMIT, **kwargs: int) -> Quotas:
    made = Quotas(**kwargs)
    made.set_limits({"a": QuotaLimits(max_requests, max_tokens), "b": QuotaLimits(max_requests, max_tokens)})
    return made


def claim(charge_id: str, num_tokens: int = 100, account: str = "a", choice: int = 0) -> QuotaClaim:
    return QuotaClaim(account, charge_id, num_tokens, choice)


def ask(asked: Quotas, wanted: QuotaClaim, now_s: float) -> None:
    asked.check(wanted, now_s)
    asked.charge(wanted, now_s)


def test_requests_are_counted_and_the_one_too_many_is_told_when_there_is_room() -> None:
    asked = quotas(max_requests=2, max_tokens=None)
    ask(asked, claim("1"), 10.0)
    ask(asked, claim("2"), 15.5)
    with pytest.raises(QuotaSpent) as refused:
        ask(asked, claim("3"), 20.0)
    room_at_s = 20.0 + refused.value.retry_after_s
    with pytest.raises(QuotaSpent):
        ask(asked, claim("3"), room_at_s - 0.01)
    ask(asked, claim("3"), room_at_s)


def test_tokens_are_counted_and_a_small_request_has_room_sooner_than_a_large_one() -> None:
    asked = quotas()
    ask(asked, claim("1", 300), 0.0)
    ask(asked, claim("2", 700), 30.0)
    with pytest.raises(QuotaSpent) as small:
        ask(asked, claim("3", 300), 40.0)
    with pytest.raises(QuotaSpent) as large:
        ask(asked, claim("3", 301), 40.0)
    assert (small.value.retry_after_s, large.value.retry_after_s) == (NUM_SLOTS - 40.0, NUM_SLOTS - 10.0)


def test_a_request_that_alone_is_larger_than_a_minutes_tokens_is_refused_for_good() -> None:
    with pytest.raises(LargerThanQuota, match=r"1001 tokens.*1000 a minute"):
        ask(quotas(), claim("1", LIMIT + 1), 0.0)


def test_a_refused_request_is_charged_nothing() -> None:
    asked = quotas()
    ask(asked, claim("1", 600), 0.0)
    for number in range(10):
        with pytest.raises(QuotaSpent):
            ask(asked, claim(f"refused {number}", 500), 1.0)
    ask(asked, claim("2", 400), 1.0)


def test_all_tickets_of_a_request_are_one_charge_and_are_let_in_or_refused_together() -> None:
    asked = quotas(max_requests=1)
    for choice in range(4):
        ask(asked, claim("1", 800, choice=choice), 0.0)
    for choice in range(4):
        with pytest.raises(QuotaSpent):
            ask(asked, claim("2", 200, choice=choice), 0.0)


def test_accounts_do_not_pay_for_each_other_and_those_without_limits_are_not_counted() -> None:
    asked = quotas()
    ask(asked, claim("1", LIMIT), 0.0)
    ask(asked, claim("2", LIMIT, account="b"), 0.0)
    for number in range(100):
        ask(asked, claim(f"free {number}", LIMIT, account="no limits"), 0.0)
    asked.check(None, 0.0)
    assert asked.num_accounts == 2


def test_what_was_not_served_is_given_back_once() -> None:
    asked = quotas()
    ask(asked, claim("1", LIMIT), 0.0)
    for _ in range(3):
        asked.settle(claim("1"), LIMIT, 0)
    ask(asked, claim("2", LIMIT), 1.0)
    with pytest.raises(QuotaSpent):
        ask(asked, claim("3", 1), 1.0)


def test_each_choice_gives_back_its_own_part() -> None:
    asked = quotas()
    ask(asked, claim("1", LIMIT), 0.0)
    asked.settle(claim("1", choice=0), LIMIT // 2, 100)
    asked.settle(claim("1", choice=1), LIMIT // 2, 200)
    ask(asked, claim("2", LIMIT - 300), 1.0)
    with pytest.raises(QuotaSpent):
        ask(asked, claim("3", 1), 1.0)


def test_nothing_is_given_back_of_a_charge_that_counts_no_more() -> None:
    asked = quotas()
    ask(asked, claim("1", LIMIT), 0.0)
    ask(asked, claim("2", LIMIT), 100.0)
    asked.settle(claim("1"), LIMIT, 0)
    with pytest.raises(QuotaSpent):
        ask(asked, claim("3", 1), 100.0)


def test_an_answer_that_goes_on_elsewhere_is_charged_what_all_its_attempts_served() -> None:
    asked = quotas()
    ask(asked, claim("1", LIMIT), 0.0)
    asked.settle(claim("1"), LIMIT, 300)
    asked.come_again(claim("1"))
    with pytest.raises(QuotaSpent):
        ask(asked, claim("2", 1), 1.0)
    asked.settle(claim("1"), LIMIT, 100)
    ask(asked, claim("2", LIMIT - 400), 1.0)
    with pytest.raises(QuotaSpent):
        ask(asked, claim("3", 1), 1.0)


def test_no_more_than_what_was_charged_is_ever_kept() -> None:
    asked = quotas()
    ask(asked, claim("1", 500), 0.0)
    asked.settle(claim("1"), 500, 5_000)
    ask(asked, claim("2", 500), 0.0)


def test_accounts_and_charges_are_forgotten_when_they_count_no_more() -> None:
    asked = quotas()
    ask(asked, claim("1"), 0.0)
    ask(asked, claim("2", account="b"), MINUTE_S + 10)
    assert (asked.num_accounts, asked.num_charges) == (1, 1)


def test_as_many_charges_are_remembered_as_may_be_and_the_oldest_still_counts() -> None:
    asked = quotas(max_charges=2)
    for number in range(5):
        ask(asked, claim(str(number), 200), 0.0)
    assert asked.num_charges == 2
    with pytest.raises(QuotaSpent):
        ask(asked, claim("last", 1), 0.0)


def test_new_limits_count_at_once_and_what_was_charged_stays_charged() -> None:
    asked = quotas()
    ask(asked, claim("1", 600), 0.0)
    asked.set_limits({"a": QuotaLimits(max_tokens_per_min=500)})
    with pytest.raises(QuotaSpent):
        ask(asked, claim("2", 1), 1.0)
    asked.set_limits({"a": QuotaLimits(max_tokens_per_min=700)})
    ask(asked, claim("2", 100), 1.0)
    asked.set_limits({})
    ask(asked, claim("3", 10**9), 1.0)


@pytest.mark.parametrize("field", ["max_requests_per_min", "max_tokens_per_min"])
def test_a_limit_below_one_is_none(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        QuotaLimits(**{field: 0})


steps = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=40),
        st.integers(min_value=1, max_value=LIMIT),
        st.integers(0, LIMIT),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_minute_one_looks_at_no_more_was_let_in_than_the_limit(
    asked_for: list[tuple[float, int, int, int]],
) -> None:
    """Each request counts at its arrival with what it was served in the end, and ends after some later arrivals."""
    max_requests, asked, now_s = 5, quotas(max_requests=5), 1_000.3
    kept: dict[str, tuple[float, int]] = {}
    ends: list[tuple[int, str, int, int]] = []
    told_s: list[float] = []
    for step, (gap_s, num_tokens, num_served, lasts) in enumerate(asked_for):
        now_s += gap_s
        for due, name, charged, served in list(ends):
            if due <= step:
                ends.remove((due, name, charged, served))
                asked.settle(claim(name), charged, served)
                kept[name] = (kept[name][0], min(charged, served))
        try:
            ask(asked, claim(str(step), num_tokens), now_s)
        except QuotaSpent as refused:
            told_s.append(refused.retry_after_s)
        else:
            kept[str(step)] = (now_s, num_tokens)
            ends.append((step + 1 + lasts, str(step), num_tokens, num_served))
    assert all(0 < retry_after_s <= NUM_SLOTS for retry_after_s in told_s)
    for start_s, _ in kept.values():
        inside = [tokens for at_s, tokens in kept.values() if start_s <= at_s <= start_s + MINUTE_S]
        assert sum(inside) <= LIMIT
        assert len(inside) <= max_requests
