"""Useful work pays for what preemptions waste."""

from __future__ import annotations

from scheduling.churn_budget import BURST_TOKENS, SHARE, ChurnBudget


def test_what_is_not_there_cannot_be_afforded_and_useful_work_brings_it_back() -> None:
    budget = ChurnBudget()
    budget.spend(BURST_TOKENS - 10)
    assert (budget.can_afford(10), budget.can_afford(11)) == (True, False)
    budget.earn(int(1 / SHARE))
    assert budget.can_afford(11)


def test_a_full_budget_affords_anything_once() -> None:
    budget = ChurnBudget()
    assert budget.can_afford(100 * BURST_TOKENS)
    budget.spend(100 * BURST_TOKENS)
    assert (budget.is_overdrawn, budget.can_afford(0)) == (True, False)


def test_useful_work_beyond_a_full_budget_is_not_saved_up() -> None:
    budget = ChurnBudget()
    budget.earn(1_000_000)
    budget.spend(BURST_TOKENS)
    assert (budget.is_overdrawn, budget.is_full, budget.can_afford(1)) == (False, False, False)
    budget.earn(int(BURST_TOKENS / SHARE) + 1)
    assert budget.is_full
