"""Tests that the native program gives what the plain modules give, and the same to the bit whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from tests.engine.tiny_models import FAMILIES, make_tiny_model

TinyModel = Callable[[str], Path]
LENGTHS = [1, 9, 16, 33, 70, 200, 12]
DTYPES = [torch.float32, torch.bfloat16]


pytestmark = needs_native


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_batches_give_the_logits_of_a_plain_forward_pass(family: str, tiny_model: TinyModel) -> None:
    sequences = make_played(LENGTHS)
    play(make_fused_runner(tiny_model(family)).run, sequences)
    assert_played_like(load_reference(tiny_model(family)), sequences)


@pytest.mark.parametrize("num_threads", [2, 7])
def test_the_number_of_threads_changes_no_bit_of_any_logit(num_threads: int, tiny_model: TinyModel) -> None:
    """More of them than cores, too: whoever is set aside in the middle of a loop must not be missed, or heard late."""
    alone, together = make_played(LENGTHS), make_played(LENGTHS)
    play(make_fused_runner(tiny_model("llama")).run, alone)

    play(make_fused_runner(tiny_model("llama"), num_threads=num_threads).run, together)

    for one, other in zip(alone, together, strict=True):
        for position, logits in one.logits.items():
            assert torch.equal(logits, other.logits[position])


LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        pytest.param("llama", {"vocab_size": 301, "intermediate_size": 75}, id="sizes that fill no panel"),
        pytest.param("llama", {"attention_bias": True, "mlp_bias": True}, id="biases everywhere"),
        pytest.param("llama", {"tie_word_embeddings": True}, id="tied embeddings"),
        pytest.param("llama", {"head_dim": 256}, id="the largest heads"),
        pytest.param("llama", {"num_attention_heads": 16, "num_key_value_heads": 1}, id="more heads than a tile"),
        pytest.param("llama", {"hidden_act": "gelu"}, id="gelu"),
        pytest.param("llama", {"hidden_act": "relu"}, id="relu"),
        pytest.param(
            "llama",
            {"rope_parameters": {**LLAMA3_ROPE, "rope_theta": 1e4, "original_max_position_embeddings": 64}},
            id="llama3 rope",
        ),
        pytest.param(
            "llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}}, id="yarn rope"
        ),
        pytest.param("qwen2", {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1}, id="windows"),
        pytest.param("mistral", {"sliding_window": None}, id="no window"),
        pytest.param("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}, id="no caps"),
    ],
)
def test_what_a_checkpoint_may_ask_for_is_computed(family: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, family, **overrides)
    sequences = make_played([9, 70, 33])
    play(make_fused_runner(folder).run, sequences)
    assert_played_like(load_reference(folder), sequences)


@pytest.mark.parametrize("block_size", [32, 256])
def test_blocks_may_hold_several_runs(block_size: int, tiny_model: TinyModel) -> None:
    sequences = make_played(LENGTHS)
    play(make_fused_runner(tiny_model("gemma2"), block_size=block_size).run, sequences, block_size=block_size)
    assert_played_like(load_reference(tiny_model("gemma2")), sequences)


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
