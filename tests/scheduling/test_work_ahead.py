"""The work ahead of a place, against adding it up one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.work_ahead import WorkAhead

keys = st.integers(min_value=-50, max_value=50)


@given(st.lists(st.tuples(keys, st.integers(1, 500)), max_size=40), keys, st.integers(0, 40))
def test_work_under_higher_keys_lies_ahead_and_so_does_that_under_the_same(
    entries: list[tuple[int, int]], key: int, num_removed: int
) -> None:
    work = WorkAhead(grain=1.0)
    for each, num_tokens in entries:
        work.add("t", each, num_tokens)
    for each, num_tokens in entries[:num_removed]:
        work.add("t", each, -num_tokens)
    left = entries[num_removed:]
    assert work.of("t", key, {}) == sum(num_tokens for each, num_tokens in left if each >= key)


def test_other_tenants_are_served_beside_by_weight_as_long_as_they_have_work() -> None:
    work = WorkAhead(grain=1.0)
    work.add("a", 5, 300)
    work.add("b", 0, 10_000)
    work.add("c", 0, 50)
    assert work.of("a", 0, {}) == 300 + 300 + 50
    assert work.of("a", 0, {"b": 2.0}) == 300 + 600 + 50
    assert work.of("newcomer", 0, {}) == pytest.approx(0)
