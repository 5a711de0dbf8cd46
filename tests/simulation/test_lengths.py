"""How long requests are."""

from __future__ import annotations

import random
import statistics

import pytest

from simulation.lengths import EmpiricalLengths, FixedLengths, Lognormal, LognormalLengths, Size


def test_fixed_lengths_are_all_the_same() -> None:
    assert FixedLengths(Size(3, 4)).draw(random.Random(1)) == Size(3, 4)


def test_lognormal_lengths_have_the_median_asked_for_and_end_at_the_limit() -> None:
    rng, length = random.Random(1), Lognormal(100, sigma=1.0, max_tokens=300)
    drawn = [length.draw(rng) for _ in range(5000)]

    assert statistics.median(drawn) == pytest.approx(100, rel=0.1)
    assert max(drawn) == 300
    assert min(drawn) >= 1


def test_prompt_and_output_are_drawn_each_for_itself() -> None:
    lengths = LognormalLengths(Lognormal(10, 0.0, 100), Lognormal(20, 0.0, 100))

    assert lengths.draw(random.Random(1)) == Size(10, 20)


def test_recorded_prompts_keep_their_answers() -> None:
    recorded = (Size(1, 10), Size(2, 20), Size(3, 30))
    rng = random.Random(1)

    assert {EmpiricalLengths(recorded).draw(rng) for _ in range(100)} == set(recorded)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Size(0, 1), "num_prompt_tokens: expected at least 1, got 0"),
        (lambda: Size(1, -1), "num_output_tokens: expected at least 1, got -1"),
        (lambda: Lognormal(0, 1.0, 10), "median_tokens"),
        (lambda: Lognormal(1, -1.0, 10), "sigma"),
        (lambda: Lognormal(1, 1.0, 0), "max_tokens"),
        (lambda: EmpiricalLengths(()), "sizes: expected at least one"),
    ],
)
def test_a_wrong_length_is_named_with_its_value(make: type, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
