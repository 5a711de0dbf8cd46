"""Tests that what is chosen where the logits lie is what the host chooses, with one wait for the device."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.counter_hash import uniform
from engine.cuda.choice import NUCLEUS_CANDIDATES, choose
from engine.protocol import SamplingParams
from engine.sampler import SampleRow, choose_on_device, choose_on_host
from engine.token_search import TORCH_SEARCH
from tests.engine.tape import Tape

VOCAB = 97

one_row = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 1e-5, 0.7, 1.0, 3.0]),
        "top_k": st.sampled_from([0, 1, 4, VOCAB, 1000]),
        "top_p": st.sampled_from([1.0, 0.9, 0.3, 0.0]),
        "min_p": st.sampled_from([0.0, 0.05, 2.0]),
        "seed": st.integers(0, 2**64 - 1),
    }
)
bad_rows = st.sampled_from([None, math.nan, math.inf, -math.inf])


def make_rows(all_settings: list[dict[str, Any]]) -> list[SampleRow]:
    return [SampleRow("row", SamplingParams(max_tokens=9, **one), [0, 1], 1) for one in all_settings]


def make_logits(num_rows: int, vocab: int = VOCAB, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(num_rows, vocab, generator=torch.Generator().manual_seed(num_rows)) * spread


@settings(deadline=None)
@given(st.lists(st.tuples(one_row, bad_rows), min_size=1, max_size=6))
def test_device_and_host_choose_the_same_tokens(cases: list[tuple[dict[str, Any], float | None]]) -> None:
    rows, logits = make_rows([one for one, _ in cases]), make_logits(len(cases))
    for row, (_, bad) in zip(logits, cases, strict=True):
        if bad is not None:
            row[3 if bad > 0 else slice(None)] = bad
    assert choose_on_device(logits, rows) == choose_on_host(logits, rows, TORCH_SEARCH)


def test_a_nucleus_wider_than_the_candidates_is_found_all_the_same() -> None:
    logits = make_logits(8, vocab=4 * NUCLEUS_CANDIDATES, spread=0.1)
    rows = make_rows([{"top_p": top_p, "seed": seed} for seed, top_p in enumerate([0.9, 0.99, 0.1, 1.0] * 2)])
    choices = choose(logits, [row.sampling for row in rows], [uniform(row.sampling.seed, 2) for row in rows])
    assert choices.undecided == [0, 1, 4, 5]
    assert choose_on_device(logits, rows) == choose_on_host(logits, rows, TORCH_SEARCH)


@pytest.mark.parametrize(
    "several",
    [
        [{"temperature": 0.0}, {"temperature": 0.0}],
        [{"temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.1}, {"temperature": 0.0}, {"temperature": 1.0}],
    ],
)
def test_no_operator_of_an_ordinary_choice_waits_for_the_device(several: list[dict[str, Any]]) -> None:
    rows = make_rows([{"seed": 1, **one} for one in several])
    with Tape():  # refuses those that do
        uniforms = [0.5 if row.sampling.temperature else None for row in rows]
        choose(make_logits(len(rows)), [row.sampling for row in rows], uniforms)


def test_the_logits_stay_as_they_were() -> None:
    logits = make_logits(2)
    before = logits.clone()
    choose_on_device(logits, make_rows([{"seed": 1, "top_k": 3, "top_p": 0.5, "min_p": 0.1}] * 2))
    assert torch.equal(logits, before)
