"""A side's answers count when they are the model's, up to rounding."""

from __future__ import annotations

import pytest

from benchmarks.peers.reference import Agreement, Choice, WrongAnswers, check_answers


def judge_with(gaps: list[float], largest: float) -> list[Choice]:
    """Of a prompt of two tokens, whose own second token nobody judges, and the answer behind it."""
    return [Choice(9.0, 0.0, largest), *(Choice(5.0, 5.0 - gap, largest) for gap in gaps)]


def check(gaps: list[float], largest: float = 16.0) -> Agreement:
    return check_answers("side", [[1, 2]], [[7] * len(gaps)], lambda _: judge_with(gaps, largest))


def test_the_references_own_choices_agree() -> None:
    assert check([0.0] * 10) == Agreement(num_tokens=10, num_best=10)


def test_a_choice_within_rounding_agrees() -> None:
    assert check([0.0] * 9 + [0.2]) == Agreement(num_tokens=10, num_best=9)


def test_a_choice_beyond_rounding_is_wrong() -> None:
    with pytest.raises(WrongAnswers, match=r"side: a token is 0.60 below .* at most 0.50"):
        check([0.0] * 9 + [0.6])


def test_rounding_takes_more_of_larger_logits() -> None:
    assert check([0.0] * 9 + [0.6], largest=32.0).num_best == 9


def test_too_many_close_choices_are_wrong() -> None:
    with pytest.raises(WrongAnswers, match="8 of 10 tokens"):
        check([0.0] * 8 + [0.1] * 2)


def test_agreements_add_up() -> None:
    assert Agreement(10, 9) + Agreement(5, 5) == Agreement(num_tokens=15, num_best=14)
