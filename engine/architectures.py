"""Says which architectures can be served, and which can be split: from the configuration, before a weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engine.checkpoint import CheckpointError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Split by DeepSpeed AutoTP and compared with the unsplit model, uneven heads included (see tests/engine).
SHARDABLE = frozenset(
    {
        *("arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm", "gpt_neox"),
        *("granite", "llama", "mistral", "olmo", "opt", "phi", "qwen2", "qwen3", "seed_oss", "smollm3", "starcoder2"),
    }
)
#: Known to fail or to waste memory when split; the reason goes into the refusal.
NOT_SHARDABLE = {
    "gpt2": "AutoTP does not know its fused projections",
    "bloom": "AutoTP cuts its fused projections at the wrong places",
    "mixtral": "AutoTP leaves its fused experts whole on every rank",
    "granitemoe": "AutoTP leaves its fused experts whole on every rank",
    "qwen3_moe": "AutoTP leaves its fused experts whole on every rank",
}
#: They depend on the longest position of the whole batch, so one request would change another's answer.
_BATCH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})
_KNOWN_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})


class UnsupportedModel(CheckpointError):
    """The architecture cannot be served, or not at this tensor_parallel_size."""


def check_servable(config: PretrainedConfig, tensor_parallel_size: int) -> None:
    """Refuses what would answer wrongly.

    Raises:
        UnsupportedModel: with the model type and the reason.
    """
    reason = next(_objections(config), None) or next(_sharding_objections(config, tensor_parallel_size), None)
    if reason is not None:
        raise UnsupportedModel(f"{config.model_type}: {reason}")


def context_length(config: PretrainedConfig) -> int:
    """Tokens of prompt and answer that the checkpoint was made for.

    Raises:
        UnsupportedModel: the configuration does not say.
    """
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int):
        raise UnsupportedModel(f"{config.model_type}: max_position_embeddings: expected a number, got {length!r}")
    return length


def _objections(config: PretrainedConfig) -> Iterator[str]:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if config.is_encoder_decoder:
        yield "an encoder-decoder; only decoders are served"
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if model_class is None:
        yield "not a causal language model"
    elif not model_class.is_backend_compatible():
        yield "its attention cannot be replaced, so it cannot use the paged KV cache"
    if getattr(config, "quantization_config", None) is not None:
        yield "quantised weights, which DeepSpeed AutoTP does not keep intact"
    if getattr(config, "num_kv_shared_layers", 0):
        yield "layers that share one KV cache"
    if getattr(config, "use_bidirectional_attention", None):
        yield "attention that looks ahead"
    for layer_type in sorted(set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYER_TYPES):
        yield f"layers of type {layer_type!r}; expected full_attention or sliding_attention"
    for rope_type in _rope_types(getattr(config, "rope_parameters", None)):
        if rope_type in _BATCH_DEPENDENT_ROPE:
            yield f"RoPE of type {rope_type!r}, which depends on the longest request of the batch"


def _sharding_objections(config: PretrainedConfig, tensor_parallel_size: int) -> Iterator[str]:
    if tensor_parallel_size == 1:
        return
    setting = f"tensor_parallel_size {tensor_parallel_size}"
    if config.model_type in NOT_SHARDABLE:
        yield f"{setting}: {NOT_SHARDABLE[config.model_type]}; use 1"
    elif config.model_type not in SHARDABLE:
        yield f"{setting}: splitting is known to be right only for {', '.join(sorted(SHARDABLE))}; use 1"
    num_kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if tensor_parallel_size > num_kv_heads:
        yield f"{setting}: expected at most its {num_kv_heads} key-value heads"


def _rope_types(parameters: Any) -> Iterator[str]:
    """`rope_parameters` is one set of settings, or one for each type of layer."""
    if not isinstance(parameters, dict):
        return
    if "rope_type" in parameters:
        yield str(parameters["rope_type"])
    for value in parameters.values():
        yield from _rope_types(value)
