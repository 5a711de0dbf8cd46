"""Owns the shapes of the models that the GPU benchmark makes up, their weights, and how many bytes a step reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A Llama of random weights. The output head has weights of its own."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    vocab_size: int
    max_model_len: int = 8192

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def num_matrix_elements(self) -> int:
        """Of all weights that every step reads, or that every token is multiplied with: all but the embedding."""
        kv_size = self.num_kv_heads * self.head_dim
        layer = self.hidden_size * (2 * self.hidden_size + 2 * kv_size + 3 * self.intermediate_size)
        return self.num_layers * layer + self.vocab_size * self.hidden_size

    @property
    def num_kv_elements(self) -> int:
        """Of one token's keys and values in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim

    def decode_bytes(self, num_context_tokens: int, element_bytes: int) -> int:
        """What one decode step reads at least. num_context_tokens: of all sequences together."""
        return (self.num_matrix_elements + self.num_kv_elements * num_context_tokens) * element_bytes

    def prefill_operations(self, num_tokens: int) -> int:
        """Multiplications and additions of one prompt; each token attends to half of it on average."""
        attention = 2 * self.num_layers * self.hidden_size * num_tokens**2
        return 2 * self.num_matrix_elements * num_tokens + attention


SHAPES = {
    "llama-3-8b": ModelShape(4096, 32, 32, 8, 14336, 128_256),
    "tiny": ModelShape(64, 2, 4, 2, 128, 512, max_model_len=1024),
}
#: What the engine is checked with beside the first layers of the measured shape.
SMALL = ModelShape(512, 4, 8, 2, 1024, 4096, max_model_len=1024)


def write_checkpoint(shape: ModelShape, folder: Path, dtype: str, device: str) -> None:
    """Random weights, made on the device and written as safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        max_position_embeddings=shape.max_model_len,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="4GB")
    del model
    if device == "cuda":
        torch.cuda.empty_cache()  # the engine looks at what the driver calls free
