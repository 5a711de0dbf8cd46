"""Choosing tokens: the right distribution, the filters as their papers define them, and no row that sways another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.counter_hash import uniform
from engine.protocol import Sampled, SamplingParams
from engine.sampler import MIN_TEMPERATURE, SampleRow, prompt_logprobs, sample
from engine.token_choice import filter_rows, scale

VOCAB = 97  # not a multiple of the search block
Floats = npt.NDArray[np.float64]


def make_row(
    *, seed: int = 1, prompt: list[int] | None = None, output: list[int] | None = None, **sampling: Any
) -> SampleRow:
    prompt, output = prompt or [0], output or []
    params = SamplingParams(max_tokens=100, seed=seed, **sampling)
    return SampleRow("row", params, prompt + output, len(prompt))


def make_logits(num_rows: int, *, vocab: int = VOCAB, spread: float = 2.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, vocab, generator=torch.Generator().manual_seed(seed)) * spread


def choose(logits: list[float], **row: Any) -> int | None:
    return sample(torch.tensor([logits]), [make_row(**row)])[0].token_id


def frequencies(logits: torch.Tensor, num_draws: int, **sampling: Any) -> Floats:
    """How often each token of one row of logits is drawn, over as many seeds."""
    rows = [make_row(seed=seed, **sampling) for seed in range(num_draws)]
    drawn = [found.token_id for found in sample(logits.expand(num_draws, -1), rows)]
    return np.bincount(drawn, minlength=logits.shape[-1]) / num_draws  # type: ignore[arg-type]


def expected_probs(
    logits: torch.Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Floats:
    """One row's distribution in plain numpy: min_p, then top_k, then top_p."""
    scaled = logits.double().numpy() / temperature
    probs = np.exp(scaled - scaled.max())
    probs = np.where(probs >= min_p, probs, 0.0)
    if top_k:
        probs = np.where(probs >= np.sort(probs)[-top_k], probs, 0.0)
    probs /= probs.sum()
    order = np.argsort(-probs)
    num_kept = int(np.searchsorted(np.cumsum(probs[order]), top_p)) + 1 if top_p < 1.0 else len(probs)
    probs[order[num_kept:]] = 0.0
    return probs / probs.sum()


def test_greedy_takes_the_best_token() -> None:
    logits = make_logits(8)
    found = sample(logits, [make_row(temperature=0.0)] * 8)
    assert [one.token_id for one in found] == logits.argmax(-1).tolist()


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1, "temperature": 2.0}]
)
def test_tokens_are_drawn_as_often_as_their_probability_says(sampling: dict[str, Any]) -> None:
    logits = make_logits(1)
    num_draws = 20_000
    probs = expected_probs(logits[0], **sampling)
    deviation = np.abs(frequencies(logits, num_draws, **sampling) - probs)
    assert np.all(deviation <= 5 * np.sqrt(probs * (1 - probs) / num_draws) + 1 / num_draws)


def test_a_token_that_is_filtered_out_is_never_drawn() -> None:
    logits = make_logits(1)
    drawn = frequencies(logits, 5_000, top_k=3) > 0
    assert set(np.flatnonzero(drawn)) == set(logits[0].topk(3).indices.tolist())


@given(
    seed=st.integers(0, 1_000),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.integers(0, VOCAB + 3),
    top_p=st.floats(0.01, 1.0),
    min_p=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_the_filters_keep_what_the_reference_keeps(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = make_logits(1, seed=seed)
    params = [SamplingParams(1, 0, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)]
    probs = filter_rows(scale(logits, params), params).softmax(-1)[0].numpy()
    top_k = 0 if top_k > VOCAB else top_k
    reference = expected_probs(logits[0], temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    # Where rounding decides whether one more token is in the nucleus, either answer is right.
    assert abs(int((probs > 0).sum()) - int((reference > 0).sum())) <= 1
    if (probs > 0).sum() == (reference > 0).sum():
        np.testing.assert_allclose(probs, reference, atol=1e-5)


def test_a_nucleus_wider_than_the_first_candidates_is_found() -> None:
    logits = make_logits(1, vocab=5_000, spread=0.5)
    params = [SamplingParams(1, 0, top_p=0.9)]
    kept = filter_rows(scale(logits, params), params).isfinite().sum().item()
    assert abs(kept - int((expected_probs(logits[0], top_p=0.9) > 0).sum())) <= 2


def test_a_nucleus_of_nothing_is_the_best_token() -> None:
    assert choose([1.0, 3.0, 2.0], top_p=0.0) == 1


@pytest.mark.parametrize("temperature", [1e-30, 1e-50, 5e-324])  # the last two are 0 in float32
def test_a_tiny_temperature_is_greedy_and_overflows_nothing(temperature: float) -> None:
    assert choose([1.0, 3.0, 2.0], temperature=temperature) == 1


def test_the_least_temperature_that_is_drawn_with_takes_the_best_token() -> None:
    assert choose([1.0, 3.0, 2.0], temperature=MIN_TEMPERATURE) == 1


mixed = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.7, 1.0]),
        "top_k": st.sampled_from([0, 4]),
        "top_p": st.sampled_from([1.0, 0.9]),
        "min_p": st.sampled_from([0.0, 0.05]),
        "repetition_penalty": st.sampled_from([1.0, 1.3]),
        "frequency_penalty": st.sampled_from([0.0, 0.5]),
        "logprobs": st.sampled_from([None, 2]),
        "seed": st.integers(0, 5),
        "output": st.lists(st.integers(0, VOCAB - 1), max_size=4),
    }
)


@given(st.lists(mixed, min_size=1, max_size=6))
def test_a_row_is_chosen_alike_in_every_batch(settings: list[dict[str, Any]]) -> None:
    logits = make_logits(len(settings))
    rows = [make_row(**one) for one in settings]
    together = sample(logits, rows)
    alone = [sample(logits[i : i + 1], [row])[0] for i, row in enumerate(rows)]
    assert [one.token_id for one in together] == [one.token_id for one in alone]
    assert [one.logprob is None for one in together] == [one.logprob is None for one in alone]


def test_the_same_seed_and_position_draw_alike_and_others_differ() -> None:
    logits = torch.zeros(1, 10_000)

    def drawn(seed: int, length: int) -> int | None:
        return sample(logits, [make_row(seed=seed, output=[1] * length)])[0].token_id

    assert drawn(3, 5) == drawn(3, 5)
    assert len({drawn(3, 5), drawn(3, 6), drawn(4, 5), drawn(4, 6)}) == 4


@given(st.integers(), st.integers(0, 100_000))
def test_any_seed_gives_a_number_below_one(seed: int, position: int) -> None:
    assert 0.0 <= uniform(seed, position) < 1.0


@pytest.mark.parametrize("numbers", [[uniform(7, i) for i in range(20_000)], [uniform(i, 7) for i in range(20_000)]])
def test_the_numbers_are_uniform_and_neighbours_are_independent(numbers: list[float]) -> None:
    counts, _ = np.histogram(numbers, bins=20, range=(0.0, 1.0))
    assert np.all(np.abs(counts - 1_000) < 5 * math.sqrt(1_000))
    assert abs(float(np.corrcoef(numbers[:-1], numbers[1:])[0, 1])) < 0.04


def test_sampling_leaves_the_logits_as_they_were() -> None:
    logits = make_logits(3)
    before = logits.clone()
    sample(logits, [make_row(**one) for one in ({"top_p": 0.5}, {"logit_bias": ((1, 5.0),)}, {"temperature": 0.0})])
    assert torch.equal(logits, before)


def test_repetition_counts_the_prompt_and_the_output() -> None:
    logits = [2.0, 1.9, 1.8, -5.0]
    assert choose(logits, temperature=0.0, prompt=[0], output=[1], repetition_penalty=1.5) == 2
    assert choose([-1.0, -1.4], temperature=0.0, prompt=[0], repetition_penalty=1.5) == 1


def test_presence_and_frequency_count_the_output_alone() -> None:
    logits = [2.0, 1.9, 0.0]
    assert choose(logits, temperature=0.0, prompt=[0, 0], presence_penalty=1.0) == 0
    assert choose(logits, temperature=0.0, prompt=[2], output=[0], presence_penalty=0.2) == 1
    assert choose(logits, temperature=0.0, prompt=[2], output=[0, 0], frequency_penalty=0.04) == 0
    assert choose(logits, temperature=0.0, prompt=[2], output=[0, 0, 0], frequency_penalty=0.04) == 1


def test_a_bias_is_added_to_its_token() -> None:
    assert choose([2.0, 1.0, 0.0], temperature=0.0, logit_bias=((2, 2.5), (0, -1.0))) == 2


def test_a_stop_token_cannot_be_chosen_before_min_tokens() -> None:
    row: dict[str, Any] = {"temperature": 0.0, "stop_token_ids": (0,), "min_tokens": 2, "logit_bias": ((0, 100.0),)}
    assert choose([5.0, 1.0], output=[1], **row) == 1
    assert choose([5.0, 1.0], output=[1, 1], **row) == 0


def test_min_tokens_without_any_stop_token_forbids_nothing() -> None:
    assert choose([5.0, 1.0], temperature=0.0, ignore_eos=True, min_tokens=2) == 0


@pytest.mark.parametrize("bad", [[math.nan, 1.0], [math.inf, 1.0], [-math.inf, -math.inf]])
def test_a_row_without_a_finite_best_fails_alone(bad: list[float]) -> None:
    logits = torch.tensor([[1.0, 2.0], bad, [2.0, 1.0]])
    rows = [make_row(temperature=0.0, logprobs=1), make_row(logprobs=1), make_row(top_k=1)]
    first, broken, last = sample(logits, rows)
    assert (first.token_id, last.token_id) == (1, 0)
    assert broken == Sampled("row", None, error="the model gave no finite best logit at position 1")


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1e-300},
        {"repetition_penalty": 1e-300, "temperature": 0.0},
        {"frequency_penalty": -1e300},
        {"logit_bias": ((0, 1e300),)},
        {"min_p": 2.0},
        {"temperature": 1e300, "logit_bias": ((1, -math.inf),)},
    ],
)
def test_settings_that_leave_nothing_to_choose_from_fail_their_row_alone(settings: dict[str, Any]) -> None:
    neighbour = make_row(top_k=1, logprobs=0)
    rows = [neighbour, make_row(output=[0], logprobs=1, **settings), neighbour]
    first, broken, last = sample(torch.tensor([[1.0, 2.0]] * 3), rows)
    assert (first.token_id, last.token_id) == (1, 1)
    assert (broken.token_id, broken.logprob) == (None, None)
    assert "nothing can be chosen at position 2 with temperature=" in (broken.error or "")


def test_logprobs_are_those_of_the_model_before_any_setting() -> None:
    logits = make_logits(2)
    rows = [make_row(temperature=0.3, top_k=2, logit_bias=((5, 50.0),), logprobs=3), make_row(logprobs=0)]
    biased, plain = sample(logits, rows)
    reference = logits.log_softmax(-1)
    assert biased.logprob is not None
    assert biased.token_id == 5
    assert biased.logprob.logprob == pytest.approx(reference[0, 5].item())
    assert [token_id for token_id, _ in biased.logprob.top] == reference[0].topk(3).indices.tolist()
    assert [value for _, value in biased.logprob.top] == pytest.approx(reference[0].topk(3).values.tolist())
    assert plain.logprob is not None
    assert plain.logprob.top == []


def test_more_alternatives_than_the_vocabulary_has_are_all_of_it() -> None:
    found = sample(make_logits(1), [make_row(logprobs=VOCAB + 5)])[0]
    assert found.logprob is not None
    assert len(found.logprob.top) == VOCAB


def test_each_prompt_token_has_the_probability_that_the_row_before_it_gave() -> None:
    logits = make_logits(3)
    found = prompt_logprobs(logits, [4, 5, 6], 2)
    assert [one.token_id for one in found] == [4, 5, 6]
    assert [one.logprob for one in found] == pytest.approx(logits.log_softmax(-1)[[0, 1, 2], [4, 5, 6]].tolist())
    assert [len(one.top) for one in found] == [2, 2, 2]
    assert prompt_logprobs(logits[:0], [], 2) == []


def test_a_rare_token_at_the_end_of_a_large_vocabulary_keeps_its_chance() -> None:
    logits = torch.full((1, 150_001), -20.0)
    logits[0, -1] = math.log(150_000) - 20.0  # as likely as all the others together
    drawn = frequencies(logits, 400)
    assert abs(drawn[-1] - 0.5) < 0.13
