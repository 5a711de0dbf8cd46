"""Owns tiny random checkpoints: complete Hugging Face folders, loaded in milliseconds. Knows nothing of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCAB_SIZE = 288
EOS_TOKEN_ID = 1
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": EOS_TOKEN_ID,
    "pad_token_id": None,
    "initializer_range": 0.1,  # far from uniform, so that a wrong mask or position shows in the logits
}
_PARTICULAR: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 16},
    "qwen2": {"head_dim": 16},
    "qwen3": {"head_dim": 16},
    "mistral": {"head_dim": 16, "sliding_window": 20},
    "gemma2": {
        "head_dim": 16,
        "sliding_window": 20,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 10.0,
        "query_pre_attn_scalar": 16,
        "num_hidden_layers": 4,
    },
    "phi": {"head_dim": 32, "partial_rotary_factor": 0.5},
}
FAMILIES = tuple(_PARTICULAR)
#: Also known to split well; together with FAMILIES what `engine.architectures.SHARDABLE` lists.
_MORE: dict[str, dict[str, Any]] = {
    "arcee": {},
    "cohere": {},
    "cohere2": {"sliding_window": 20},
    "ernie4_5": {"head_dim": 16},
    "exaone4": {"sliding_window": 20, "sliding_window_pattern": 2},
    "gemma": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 20, "query_pre_attn_scalar": 16, "sliding_window_pattern": 2},
    "glm": {"head_dim": 16},
    "gpt_neox": {"num_attention_heads": 3},
    "granite": {},
    "olmo": {},
    "opt": {"num_attention_heads": 3, "ffn_dim": 80, "word_embed_proj_dim": 48},
    "seed_oss": {"head_dim": 16},
    "smollm3": {},
    "starcoder2": {"sliding_window": 20},
}
MORE_FAMILIES = tuple(_MORE)


def make_tiny_model(folder: Path, family: str = "llama", **overrides: Any) -> Path:
    """Writes weights (float32), configuration and tokenizer of a random `family` model into `folder`."""
    config = CONFIG_MAPPING[family](**{**_SIZES, **{**_PARTICULAR, **_MORE}.get(family, {}), **overrides})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        _randomise_biases_and_norms(model)
    model.generation_config.eos_token_id = EOS_TOKEN_ID
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def _randomise_biases_and_norms(model: torch.nn.Module) -> None:
    """They start as zeros and ones, so that one that is lost or taken for another would not show."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter += 0.2 * torch.randn_like(parameter)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, after `<s>` and `</s>`: any text goes there and back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = CHAT_TEMPLATE
    return fast
