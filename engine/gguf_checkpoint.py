"""Owns turning a GGUF file into a complete Hugging Face folder. Knows nothing of where either comes from or lies.

`python -m engine.gguf_checkpoint FILE FOLDER END_OF_TURN` does it in a process of its own, whose memory goes with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig


def convert_gguf(gguf_file: Path, folder: Path, end_of_turn: str) -> None:
    """Writes bf16 safetensors, config, generation config, tokenizer and chat template into `folder`.

    end_of_turn: the token that ends an assistant's answer; it becomes the model's end of sequence.

    Raises:
        ValueError: the file has no chat template, or its vocabulary lacks `end_of_turn`.
    """
    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    if not tokenizer.chat_template:
        raise ValueError(f"{gguf_file.name}: expected a chat template, found none")
    if end_of_turn not in tokenizer.get_vocab():
        raise ValueError(f"{gguf_file.name}: expected {end_of_turn!r} in the vocabulary, found no such token")
    tokenizer.eos_token = end_of_turn
    # Without `dequantize` the model keeps marks of its packed origin and refuses to be saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent,
        gguf_file=gguf_file.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.config.eos_token_id = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
