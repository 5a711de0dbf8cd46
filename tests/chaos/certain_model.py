"""Owns a tiny checkpoint whose greedy answer no rounding can change: each token has one successor, by a wide margin.

Two replicas, or one with another batch, may round differently; a random model would then turn a close choice now and
then, and a chaos run reads many tokens. The attention is real, and moves what is sampled.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.engine.tiny_models import EOS_TOKEN_ID, VOCAB_SIZE, make_tokenizer

HIDDEN_SIZE = 128
MAX_TOKENS = 2048
_CERTAINTY = 8.0  # the successor's logit; the others' are about 0, with a deviation of 0.7
_LOUDNESS = 8.0  # of an embedding beside what attention adds to it


def make_certain_model(folder: Path) -> Path:
    """Writes weights (float32), configuration and tokenizer into `folder`."""
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=0,
        eos_token_id=EOS_TOKEN_ID,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).float()
        _make_certain(model, successors(make_tokenizer().get_vocab()))
    model.generation_config.eos_token_id = EOS_TOKEN_ID
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def successors(vocabulary: dict[str, int]) -> dict[int, int]:
    """One cycle through all tokens that are a letter or a digit; every other token leads into it somewhere."""
    cycle = [token_id for text, token_id in sorted(vocabulary.items()) if text.isascii() and text.isalnum()]
    after = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    return {token_id: after.get(token_id, cycle[token_id % len(cycle)]) for token_id in vocabulary.values()}


@torch.no_grad()
def _make_certain(model: LlamaForCausalLM, after: dict[int, int]) -> None:
    """The embedding outweighs what attention adds to it, and the head takes it for its successor."""
    embedding: Tensor = model.model.embed_tokens.weight
    directions = torch.nn.functional.normalize(torch.randn_like(embedding))
    embedding.copy_(_LOUDNESS * directions)
    head: Tensor = model.lm_head.weight
    head.zero_()
    scale = _CERTAINTY / HIDDEN_SIZE**0.5  # the last norm makes each hidden state as long as the root of its size
    for token_id, successor in after.items():
        head[successor] += scale * directions[token_id]
