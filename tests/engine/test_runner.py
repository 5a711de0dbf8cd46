"""Tests that logits from chunked, batched, paged steps are those of a plain forward pass, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.architectures import UnsupportedModel
from engine.config import EngineConfig
from engine.runner import max_model_len, probe_shapes
from tests.engine.playing import (
    CPU,
    assert_played_like,
    load_reference,
    make_played,
    make_runner,
    play,
)
from tests.engine.runner_checks import (
    check_a_neighbour_full_of_nan_does_no_harm,
    check_a_step_that_wants_no_logits_gives_none,
)
from tests.engine.tiny_models import FAMILIES, MORE_FAMILIES

TinyModel = Callable[[str], Path]
#: One token, less than a block, a block, longer than the sliding windows, and long beside short.
LENGTHS = [1, 9, 16, 33, 70, 200, 12]


@pytest.mark.parametrize("family", [*FAMILIES, *MORE_FAMILIES])
def test_mixed_batches_give_the_logits_of_a_plain_forward_pass(family: str, tiny_model: TinyModel) -> None:
    sequences = make_played(LENGTHS)
    play(make_runner(tiny_model(family)).run, sequences)
    assert_played_like(load_reference(tiny_model(family)), sequences)


def test_the_logits_do_not_depend_on_how_the_batch_was_cut(tiny_model: TinyModel) -> None:
    one_way, another = make_played([90, 40, 33]), make_played([90, 40, 33])
    runner = make_runner(tiny_model("gemma2"))
    play(runner.run, one_way, seed=1)
    play(runner.run, another, seed=2)
    for left, right in zip(one_way, another, strict=True):
        for position in left.logits.keys() & right.logits.keys():
            torch.testing.assert_close(left.logits[position], right.logits[position], atol=1e-5, rtol=1e-5)


def test_a_nan_that_an_earlier_owner_left_in_a_block_does_no_harm(tiny_model: TinyModel) -> None:
    runner = make_runner(tiny_model("llama"))
    for layer in runner.cache.layers:
        layer.keys.fill_(float("nan"))
        layer.values.fill_(float("nan"))
    sequences = make_played(LENGTHS)
    play(runner.run, sequences)
    assert_played_like(load_reference(tiny_model("llama")), sequences)


def test_a_neighbour_full_of_nan_does_no_harm(tiny_model: TinyModel) -> None:
    runner = make_runner(tiny_model("llama"))

    def poison(blocks: list[int]) -> None:
        runner.cache.layers[0].keys[blocks] = float("nan")

    check_a_neighbour_full_of_nan_does_no_harm(runner.run, poison, load_reference(tiny_model("llama")))


def test_a_step_that_wants_no_logits_gives_none(tiny_model: TinyModel) -> None:
    check_a_step_that_wants_no_logits_gives_none(make_runner(tiny_model("llama")).run)


def test_bfloat16_agrees_within_its_rounding(tiny_model: TinyModel) -> None:
    sequences = make_played([90, 40])
    play(make_runner(tiny_model("llama"), dtype=torch.bfloat16).run, sequences)
    assert_played_like(load_reference(tiny_model("llama")), sequences, tolerance=0.5)


def test_a_layer_that_keeps_its_own_attention_is_refused(tiny_model: TinyModel) -> None:
    model = load_reference(tiny_model("llama"))
    with pytest.raises(UnsupportedModel, match="expected attention in layers"):
        probe_shapes(model, CPU)


def test_a_context_beyond_the_checkpoints_is_refused(tiny_model: TinyModel) -> None:
    model = load_reference(tiny_model("llama"))
    with pytest.raises(UnsupportedModel, match="at most the checkpoint's context of 512 tokens, got 513"):
        max_model_len(model, EngineConfig("m", "s", max_model_len=513))


def test_the_context_is_the_checkpoints_unless_configured_shorter(tiny_model: TinyModel) -> None:
    model = load_reference(tiny_model("llama"))
    assert max_model_len(model, EngineConfig("m", "s")) == 512
    assert max_model_len(model, EngineConfig("m", "s", max_model_len=100)) == 100
