"""A checkpoint's numbers are the same in the file that llama.cpp loads, under its names and in its order."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from benchmarks.peers.gguf_file import interleaved, write_gguf

CONFIG = {
    "num_hidden_layers": 1,
    "max_position_embeddings": 64,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "rope_parameters": {"rope_theta": 10_000.0},
    "rms_norm_eps": 1e-5,
    "vocab_size": 3,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
TENSORS = {
    "model.embed_tokens.weight": torch.arange(24.0).view(3, 8).bfloat16(),
    "model.norm.weight": torch.arange(8.0).bfloat16(),
    "model.layers.0.self_attn.q_proj.weight": torch.arange(64.0).view(8, 8).bfloat16(),
}


def write_checkpoint(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    tokenizer.add_special_tokens(["b"])
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture
def reader(tmp_path: Path) -> gguf.GGUFReader:
    write_checkpoint(tmp_path, TENSORS)
    write_gguf(tmp_path, tmp_path / "model.gguf")
    return gguf.GGUFReader(tmp_path / "model.gguf")


def values(reader: gguf.GGUFReader, name: str) -> torch.Tensor:
    [tensor] = [tensor for tensor in reader.tensors if tensor.name == name]
    raw = torch.from_numpy(tensor.data.copy())
    return raw.view(torch.bfloat16) if tensor.tensor_type == gguf.GGMLQuantizationType.BF16 else raw


def test_matrices_keep_their_bits_and_norms_their_values(reader: gguf.GGUFReader) -> None:
    assert torch.equal(values(reader, "token_embd.weight"), TENSORS["model.embed_tokens.weight"])
    assert torch.equal(values(reader, "output_norm.weight"), TENSORS["model.norm.weight"].float())


def test_the_rows_of_a_rotated_projection_are_interleaved_by_head(reader: gguf.GGUFReader) -> None:
    expected = TENSORS["model.layers.0.self_attn.q_proj.weight"][[0, 2, 1, 3, 4, 6, 5, 7]]
    assert torch.equal(values(reader, "blk.0.attn_q.weight"), expected)


def test_the_vocabulary_keeps_its_order(reader: gguf.GGUFReader) -> None:
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "b", "ab"]
    assert reader.fields["tokenizer.ggml.merges"].contents() == ["a b"]
    assert reader.fields["tokenizer.ggml.token_type"].contents() == [1, 3, 1]


def test_a_head_of_two_pairs_is_interleaved() -> None:
    assert interleaved(torch.tensor([0, 1, 10, 11]), num_heads=1).tolist() == [0, 10, 1, 11]


def test_a_tensor_that_llama_cpp_does_not_have_is_an_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"model.mystery.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"model\.mystery\.weight: expected a tensor that llama\.cpp has"):
        write_gguf(tmp_path, tmp_path / "model.gguf")
