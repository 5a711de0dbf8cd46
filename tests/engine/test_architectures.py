"""Tests what is refused from the configuration alone, and that the reason is given."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import (
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PretrainedConfig,
    Qwen3Config,
    T5Config,
)

from engine.architectures import UnsupportedModel, check_servable, context_length


def llama(**overrides: Any) -> LlamaConfig:
    return LlamaConfig(num_attention_heads=8, num_key_value_heads=4, **overrides)


def rope(rope_type: str) -> dict[str, Any]:
    return {"rope_type": rope_type, "rope_theta": 1e4, "factor": 2.0, "short_factor": [1.0], "long_factor": [1.0]}


@pytest.mark.parametrize("config", [llama(), MistralConfig(), Qwen3Config(), Gemma2Config()])
def test_models_known_to_split_well_pass_at_two_ranks(config: PretrainedConfig) -> None:
    check_servable(config, tensor_parallel_size=2)


@pytest.mark.parametrize("config", [GPT2Config(), MixtralConfig()])
def test_models_that_cannot_be_split_are_served_by_one_rank(config: PretrainedConfig) -> None:
    check_servable(config, tensor_parallel_size=1)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (GPT2Config(), "fused projections"),
        (MixtralConfig(), "fused experts whole"),
        (llama(model_type="llama", num_hidden_layers=2), "at most its 4 key-value heads"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(config: PretrainedConfig, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        check_servable(config, tensor_parallel_size=8)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (T5Config(), "encoder-decoder"),
        (llama(layer_types=["chunked_attention"] * 32), "chunked_attention"),
        (BloomConfig(), "paged KV cache"),
        (llama(quantization_config={"quant_method": "gptq"}), "quantised"),
        (llama(rope_parameters=rope("dynamic")), "dynamic"),
        (llama(rope_parameters=rope("longrope")), "longrope"),
        (Gemma2Config(use_bidirectional_attention=True), "looks ahead"),
    ],
)
def test_what_would_answer_wrongly_is_refused_at_any_size(config: PretrainedConfig, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        check_servable(config, tensor_parallel_size=1)


@pytest.mark.parametrize("rope_type", ["default", "linear", "llama3", "yarn"])
def test_rope_that_depends_on_the_position_alone_is_served(rope_type: str) -> None:
    parameters = {**rope(rope_type), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = llama(rope_parameters={**parameters, "original_max_position_embeddings": 256})
    check_servable(config, tensor_parallel_size=1)


def test_the_context_length_is_the_checkpoints_own() -> None:
    assert context_length(llama(max_position_embeddings=640)) == 640


def test_a_configuration_without_a_context_length_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="max_position_embeddings"):
        context_length(PretrainedConfig())
