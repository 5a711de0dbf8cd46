"""Writes a checkpoint of the Llama family as the file that llama.cpp loads, bf16 as it is. Loads no model.

llama.cpp's rotary embedding turns neighbouring pairs where the checkpoint's turns halves, so the rows of the query and
key projections change places.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType, get_tensor_name_map
from safetensors import safe_open

_PRETOKENIZER = "smollm"  # llama.cpp's name for how the embedded model splits text


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor under llama.cpp's name for it."""

    name: str
    values: torch.Tensor


def write_gguf(folder: Path, path: Path) -> None:
    """The checkpoint in `folder`, with the embeddings as its last layer too."""
    config = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(path, "llama")
    _add_shape(writer, config)
    _add_vocabulary(writer, config, json.loads((folder / "tokenizer.json").read_text()))
    for weight in _weights(folder / "model.safetensors", config):
        _add(writer, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(rows: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Each head's first and second half of rows, one of each in turn."""
    halves = rows.view(num_heads, 2, -1, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


def _add_shape(writer: GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_file_type(LlamaFileType.MOSTLY_BF16)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_vocabulary(writer: GGUFWriter, config: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    texts = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    controls = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_PRETOKENIZER)
    writer.add_token_list(texts)
    writer.add_token_types(
        [TokenType.CONTROL if index in controls else TokenType.NORMAL for index in range(len(texts))]
    )
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def _weights(path: Path, config: dict[str, Any]) -> Iterator[Weight]:
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    num_heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    with safe_open(path, framework="pt") as tensors:
        for name in sorted(tensors.keys()):
            values = tensors.get_tensor(name)
            projection = name.split(".")[-2]
            if projection in num_heads:
                values = interleaved(values, num_heads[projection])
            theirs = names.get_name(name, try_suffixes=(".weight",))
            if theirs is None:
                raise ValueError(f"{path}: {name}: expected a tensor that llama.cpp has too")
            yield Weight(theirs, values)


def _add(writer: GGUFWriter, weight: Weight) -> None:
    """Norms in float32, which is how llama.cpp reads them."""
    if weight.values.dim() == 1:
        writer.add_tensor(weight.name, weight.values.float().numpy())
        return
    raw = weight.values.to(torch.bfloat16).contiguous().view(torch.uint8)
    writer.add_tensor(weight.name, raw.numpy(), raw_dtype=GGMLQuantizationType.BF16)
