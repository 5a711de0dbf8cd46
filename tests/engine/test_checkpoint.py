"""Tests which sources resolve to a folder, and which folders are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.checkpoint import ModelNotFound, ModelNotInstalled, UnsafeCheckpoint, models_folder, resolve, weight_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The least that passes for a checkpoint."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345678")
    return folder


def test_a_directory_is_taken_as_it_is(folder: Path) -> None:
    assert resolve(str(folder)) == folder


def test_the_embedded_model_lies_in_the_cache_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    models_folder().mkdir(parents=True)
    folder.rename(models_folder() / "Small")
    assert resolve("embedded:Small") == folder.parent / "cache/fastserve/models/Small"


def test_a_missing_embedded_model_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelNotInstalled, match="make install"):
        resolve("embedded:Small")


@pytest.mark.parametrize("source", ["/no/such/folder", "../model", "one/two/three", "embedded:../model", ""])
def test_a_source_of_no_known_form_is_refused(source: str) -> None:
    with pytest.raises(ModelNotFound, match="source"):
        resolve(source)


def test_a_folder_without_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        resolve(str(folder))


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpoint, match="pickled"):
        resolve(str(folder))


def test_an_adapter_is_refused_because_it_names_another_checkpoint(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsafeCheckpoint, match="adapter"):
        resolve(str(folder))


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    secret = folder.parent / "secret.json"
    secret.write_text("{}")
    (folder / "tokenizer.json").symlink_to(secret)
    with pytest.raises(UnsafeCheckpoint, match=r"secret\.json"):
        resolve(str(folder))


def test_a_link_inside_the_folder_is_fine(folder: Path) -> None:
    (folder / "alias.json").symlink_to(folder / "config.json")
    assert resolve(str(folder)) == folder


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/model.safetensors", "model.bin"])
def test_a_shard_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UnsafeCheckpoint, match="beside it"):
        resolve(str(folder))


def test_weight_bytes_counts_all_shards_in_the_dtype_to_be_loaded(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4)}, tmp_path / "model-1.safetensors")
    save_file({"c": torch.zeros(10)}, tmp_path / "model-2.safetensors")
    assert weight_bytes(tmp_path, torch.bfloat16) == 40
    assert weight_bytes(tmp_path, torch.float32) == 80
