from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine.fused.library import load_library
from engine.token_search import TORCH_SEARCH, TokenSearch, invert
from tests.engine.native import needs_native

INF, NAN = math.inf, math.nan
VOCAB = 5003  # of several blocks, and no multiple of a vector


@pytest.fixture(params=["torch", pytest.param("native", marks=needs_native)])
def search(request: pytest.FixtureRequest) -> TokenSearch:
    return TORCH_SEARCH if request.param == "torch" else load_library(torch.float32, num_threads=2)


def make_logits(num_rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def test_the_best_token_of_each_row_is_found_with_its_logit(search: TokenSearch) -> None:
    logits = make_logits(40)
    values, token_ids = logits.max(-1)
    assert search.best(logits) == list(zip(values.tolist(), token_ids.tolist(), strict=True))


def test_the_first_of_equals_is_the_best(search: TokenSearch) -> None:
    assert search.best(torch.tensor([[1.0] * 30 + [2.0] + [0.0] * 30 + [2.0]])) == [(2.0, 30)]


@pytest.mark.parametrize("position", [0, 17, 60])
def test_a_nan_anywhere_is_the_best(position: int, search: TokenSearch) -> None:
    logits = torch.zeros(2, 61)
    logits[1, position] = NAN
    (sound, _), (broken, _) = search.best(logits)
    assert sound == 0.0
    assert math.isnan(broken)


def test_rows_that_lie_apart_are_read_where_they_lie(search: TokenSearch) -> None:
    wide = torch.zeros(3, 128)
    wide[:, :100] = make_logits(3)[:, :100]
    wide[:, 100:] = 1000.0
    assert search.best(wide[:, :100]) == TORCH_SEARCH.best(wide[:, :100].clone())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_tokens_are_drawn_in_vocabulary_order_by_their_share_of_the_softmax(
    temperature: float, search: TokenSearch
) -> None:
    logits, num_draws = make_logits(1), 2000
    uniforms = ((np.arange(num_draws) + 0.5) / num_draws).tolist()
    drawn = search.draw(logits.expand(num_draws, -1), [temperature] * num_draws, uniforms)
    cumulative = np.cumsum((logits[0].double() / temperature).softmax(-1).numpy())
    for token_id, uniform in zip(drawn, uniforms, strict=True):
        assert token_id is not None
        before = cumulative[token_id - 1] if token_id else 0.0
        assert before - 1e-5 <= uniform <= cumulative[token_id] + 1e-5


def test_a_token_without_a_chance_is_never_drawn(search: TokenSearch) -> None:
    logits = make_logits(1)
    logits[0, 1::2] = -INF
    drawn = search.draw(logits.expand(500, -1), [1.0] * 500, (np.arange(500) / 500).tolist())
    assert all(token_id is not None and token_id % 2 == 0 for token_id in drawn)


def test_a_share_just_below_one_takes_the_last_token_with_a_chance(search: TokenSearch) -> None:
    logits = torch.full((1, VOCAB), -INF)
    logits[0, [3, 1500, 2000]] = 0.0
    assert search.draw(logits, [1.0], [math.nextafter(1.0, 0.0)]) == [2000]


def test_a_row_without_weights_gives_none_and_harms_no_other(search: TokenSearch) -> None:
    logits = torch.zeros(3, 40)
    logits[0] = -INF
    logits[1, 5] = NAN
    first, second, third = search.draw(logits, [1.0, 1.0, 1.0], [0.5, 0.5, 0.5])
    assert (first, second) == (None, None)
    assert third == 20


def test_a_share_that_rounds_up_to_one_takes_the_last_token_with_a_chance() -> None:
    assert invert(torch.tensor([[0.0, 0.3, 0.4, 0.0, 0.0]]), [1.0]) == [2]
