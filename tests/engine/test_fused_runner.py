"""Tests that the native program gives what the plain modules give, and the same to the bit whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.engine.native import needs_native
from tests.engine.playing import (
    assert_played_like,
    load_reference,
    make_fused_runner,
    make_played,
    play,
    play_step,
)
from tests.engine.runner_checks import (
    check_a_neighbour_full_of_nan_does_no_harm,
    check_a_step_that_wants_no_logits_gives_none,
)
from tests.engine.tiny_models import FAMILIES

TinyModel = Callable[[str], Path]
LENGTHS = [1, 9, 16, 33, 70, 200, 12]
DTYPES = [torch.float32, torch.bfloat16]


pytestmark = needs_native


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_batches_give_the_logits_of_a_plain_forward_pass(family: str, tiny_model: TinyModel) -> None:
    sequences = make_played(LENGTHS)
    play(make_fused_runner(tiny_model(family)).run, sequences)
    assert_played_like(load_reference(tiny_model(family)), sequences)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_agrees_within_its_rounding(family: str, tiny_model: TinyModel) -> None:
    sequences = make_played([90, 40])
    play(make_fused_runner(tiny_model(family), dtype=torch.bfloat16).run, sequences)
    assert_played_like(load_reference(tiny_model(family)), sequences, tolerance=0.5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_the_same_to_the_bit_however_the_batch_was_cut(
    family: str, dtype: torch.dtype, tiny_model: TinyModel
) -> None:
    one_way, another, alone = (make_played([90, 40, 33, 130, 7]) for _ in range(3))
    runner = make_fused_runner(tiny_model(family), dtype=dtype)
    play(runner.run, one_way, seed=1)
    play(runner.run, another, seed=2)
    for sequence in alone:
        while not sequence.is_done:
            play_step(runner.run, [sequence], [1])
    for left, right, single in zip(one_way, another, alone, strict=True):
        for position, logits in [*left.logits.items(), *right.logits.items()]:
            assert torch.equal(logits, single.logits[position])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_that_an_earlier_owner_left_in_a_block_does_no_harm(dtype: torch.dtype, tiny_model: TinyModel) -> None:
    runner = make_fused_runner(tiny_model("llama"), dtype=dtype)
    for layer in runner.cache.layers:
        layer.fill_(float("nan"))
    sequences = make_played(LENGTHS)
    play(runner.run, sequences)
    assert_played_like(load_reference(tiny_model("llama")), sequences, 1e-5 if dtype is torch.float32 else 0.5)


def test_a_neighbour_full_of_nan_does_no_harm(tiny_model: TinyModel) -> None:
    runner = make_fused_runner(tiny_model("llama"))

    def poison(blocks: list[int]) -> None:
        runner.cache.layers[0][blocks] = float("nan")

    check_a_neighbour_full_of_nan_does_no_harm(runner.run, poison, load_reference(tiny_model("llama")))


def test_a_step_that_wants_no_logits_gives_none(tiny_model: TinyModel) -> None:
    check_a_step_that_wants_no_logits_gives_none(make_fused_runner(tiny_model("llama")).run)
