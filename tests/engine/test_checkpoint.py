"""Tests which sources resolve to a folder, and which folders are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.checkpoint import (
    CheckpointError,
    ModelNotFound,
    ModelNotInstalled,
    UnsafeCheckpoint,
    is_stored_as,
    models_folder,
    resolve,
    weight_bytes,
)


def write_index(folder: Path, *names: str) -> None:
    weight_map = {f"tensor {number}": name for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


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
    (folder / "model.safetensors").unlink()
    write_index(folder, name)
    with pytest.raises(UnsafeCheckpoint, match="beside it"):
        resolve(str(folder))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "5", "{}", '{"weight_map": []}', '{"weight_map": {"a": 5}}', '{"weight_map": {"a": {}}}', "\xff"],
)
def test_an_index_that_is_none_is_one_line_that_names_it(folder: Path, text: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"index\.json: expected .* weight_map") as refused:
        resolve(str(folder))
    assert "\n" not in str(refused.value)


def test_a_shard_that_is_missing_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    write_index(folder, "model-1.safetensors")
    with pytest.raises(ModelNotFound, match=r"expected model-1\.safetensors beside it"):
        resolve(str(folder))


def test_weights_that_transformers_would_not_look_for_are_none(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    with pytest.raises(UnsafeCheckpoint, match=r"no model\*\.safetensors"):
        resolve(str(folder))


@pytest.mark.parametrize("shards", [["model.safetensors"], ["part-a.safetensors", "part-b.safetensors"]])
def test_weights_that_lie_there_twice_are_counted_once(tmp_path: Path, shards: list[str]) -> None:
    for name in [*shards, "consolidated.safetensors", "model.fp16.safetensors"]:
        save_file({"a": torch.zeros(10)}, tmp_path / name)
    write_index(tmp_path, *shards)
    assert weight_bytes(tmp_path, torch.bfloat16) == 20 * len(shards)


@pytest.mark.parametrize(
    ("shards", "fetched"), [(["part-a.safetensors"], ["part-a.safetensors"]), ([], ["model.safetensors"])]
)
def test_only_the_weights_that_are_loaded_come_from_the_hub_and_from_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: list[str], fetched: list[str]
) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    for name in ("config.json", "consolidated.safetensors", "part-a.safetensors", "model.safetensors"):
        (hub / name).write_text("{}")
    if shards:
        write_index(hub, *shards)
    snapshot, revisions = tmp_path / "c0ffee", []

    def download(hub_id: str, *, allow_patterns: list[str], revision: str | None = None) -> str:
        revisions.append(revision)
        snapshot.mkdir(exist_ok=True)
        for path in hub.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, snapshot)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve("org/name") == snapshot
    assert sorted(path.name for path in snapshot.glob("*.safetensors")) == fetched
    assert revisions == [None, "c0ffee"]


def test_weight_bytes_counts_all_shards_in_the_dtype_to_be_loaded(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4)}, tmp_path / "model-1.safetensors")
    save_file({"c": torch.zeros(10)}, tmp_path / "model-2.safetensors")
    assert weight_bytes(tmp_path, torch.bfloat16) == 40
    assert weight_bytes(tmp_path, torch.float32) == 80


def test_one_tensor_of_another_type_means_that_the_checkpoint_is_converted(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model-1.safetensors")
    assert is_stored_as(tmp_path, torch.bfloat16)
    assert not is_stored_as(tmp_path, torch.float32)
    save_file({"b": torch.zeros(2)}, tmp_path / "model-2.safetensors")
    assert not is_stored_as(tmp_path, torch.bfloat16)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A model in the hub's cache: its files are links to blobs beside the snapshots."""
    model = tmp_path / "hub/models--org--name"
    snapshot = model / "snapshots/c0ffee"
    snapshot.mkdir(parents=True)
    (model / "blobs").mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / "blobs" / f"blob-of-{name}").write_text("{}")
        (snapshot / name).symlink_to(f"../../blobs/blob-of-{name}")
    return snapshot


def test_a_snapshot_in_the_hubs_cache_links_to_its_models_blobs(snapshot: Path) -> None:
    assert resolve(str(snapshot)) == snapshot


@pytest.mark.parametrize("target", ["../../../secret", "../../../models--org--other/blobs/secret", "/etc/passwd"])
@pytest.mark.parametrize("source", ["folder", "hub id"])
def test_a_snapshot_that_links_out_of_its_models_folder_is_refused(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch, target: str, source: str
) -> None:
    (snapshot / "tokenizer.json").symlink_to(target)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(snapshot))
    with pytest.raises(UnsafeCheckpoint, match="a link to"):
        resolve(str(snapshot) if source == "folder" else "org/name")


def test_a_folder_that_only_looks_like_the_hubs_cache_has_no_more_freedom(folder: Path) -> None:
    other = folder.parent / "snapshots/c0ffee"
    other.parent.mkdir()
    folder.rename(other)
    (other.parent.parent / "secret").touch()
    (other / "tokenizer.json").symlink_to("../../secret")
    with pytest.raises(UnsafeCheckpoint, match="a link to"):
        resolve(str(other))
