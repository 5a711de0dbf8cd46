"""Finds a checkpoint and says early what cannot be served. Knows nothing of devices, ranks' weights or requests.

A source is a directory, a hub id (`org/name`) or `embedded:NAME`. Only safetensors are read, and no code of a
checkpoint is ever run.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from engine.safetensors_header import HeaderError, StoredTensor, read_header

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

EMBEDDED_PREFIX = "embedded:"
HUB_SETTINGS = ["*.json", "*.model", "*.txt", "*.jinja"]
#: What is loaded where no index names the files. Some repositories hold the same weights again under other names.
WEIGHTS = "model*.safetensors"
SINGLE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
#: The names of types in the headers of safetensors.
_STORED = {"torch.bfloat16": "BF16", "torch.float16": "F16", "torch.float32": "F32"}
_NAME = re.compile(r"[\w][\w.-]*")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


class CheckpointError(Exception):
    """A model cannot be loaded; the message says which and why. For the operator, at start-up."""


class ModelNotFound(CheckpointError):
    """The source names nothing that exists, or a folder that lacks what a checkpoint needs."""


class ModelNotInstalled(CheckpointError):
    """The embedded model is not in the cache yet."""


class UnsafeCheckpoint(CheckpointError):
    """The folder has only pickled weights, or reaches outside itself."""


def models_folder() -> Path:
    """Where installed models lie: `${XDG_CACHE_HOME:-~/.cache}/fastserve/models`."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fastserve" / "models"


def resolve(source: str) -> Path:
    """The local folder of `source`, downloaded from the hub where it is a hub id.

    Raises:
        ModelNotFound: there is no such folder or hub model, or the source has none of the three forms.
        ModelNotInstalled: an embedded model that has not been installed.
        UnsafeCheckpoint: no safetensors, or a link or a shard name that leaves the folder.
    """
    if source.startswith(EMBEDDED_PREFIX):
        return _embedded(source.removeprefix(EMBEDDED_PREFIX))
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        return _checked(folder)
    if _HUB_ID.fullmatch(source):
        return _checked(_download(source))
    raise ModelNotFound(f"source: expected a directory, a hub id (org/name) or embedded:NAME, got {source!r}")


def load_model(folder: Path, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """The whole model on the CPU, in `dtype`, with the named attention.

    Raises:
        CheckpointError: a file's header is wrong; none has been mapped then.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    for path in weight_files(folder):
        _stored(path)
    logging.disable_progress_bar()  # one bar a rank, in a log file
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation=attention,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    model.eval().requires_grad_(False)
    return model


def eos_token_ids(model: PreTrainedModel) -> list[int]:
    """What ends an answer, by the checkpoint's generation settings or else its configuration."""
    for settings in (model.generation_config, model.config):
        found = getattr(settings, "eos_token_id", None)
        if found is not None:
            return list(found) if isinstance(found, list | tuple) else [int(found)]
    return []


def read_config(folder: Path) -> PretrainedConfig:
    """The checkpoint's configuration.

    Raises:
        CheckpointError: transformers does not know this architecture without running the checkpoint's own code.
    """
    from transformers import AutoConfig

    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder}: config.json cannot be served: {error}") from error
    return config


def weight_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Bytes of all the checkpoint's tensors once they are loaded in `dtype`; reads headers only."""
    return sum(each.num_elements for path in weight_files(folder) for each in _stored(path)) * dtype.itemsize


def is_stored_as(folder: Path, dtype: torch.dtype) -> bool:
    """Whether every tensor of the checkpoint is of `dtype`, so that none has to be converted; reads headers only."""
    return all({each.dtype for each in _stored(path)} == {_STORED[str(dtype)]} for path in weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The files that are loaded, as transformers chooses: the single file, or what the index names.

    Raises:
        ModelNotFound: the index names a file that is not there.
    """
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    shards = _shard_names(folder)
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise ModelNotFound(f"{folder / INDEX}: expected {', '.join(missing)} beside it, found no such file")
    return [folder / name for name in shards] or sorted(folder.glob(WEIGHTS))


def _stored(path: Path) -> list[StoredTensor]:
    try:
        return read_header(path)
    except (HeaderError, OSError) as error:
        raise CheckpointError(f"{path}: no sound safetensors file: {error}") from None


def _embedded(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ModelNotFound(f"source: expected a plain name after {EMBEDDED_PREFIX!r}, got {name!r}")
    folder = models_folder() / name
    if not (folder / "config.json").is_file():
        raise ModelNotInstalled(
            f"{EMBEDDED_PREFIX}{name} is not installed in {folder}: run `make install` or `fastserve models install`"
        )
    return _checked(folder)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        settings = Path(snapshot_download(hub_id, allow_patterns=HUB_SETTINGS))
        weights = _shard_names(settings) or [WEIGHTS]
        # The folder is named after the commit, so that both halves are of one.
        return Path(snapshot_download(hub_id, revision=settings.name, allow_patterns=[*HUB_SETTINGS, *weights]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(f"{hub_id}: not on the hub, or the hub cannot be reached: {error}") from error


def _checked(folder: Path) -> Path:
    _check_links(folder)
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"{folder}: no config.json")
    if (folder / "adapter_config.json").exists():
        raise UnsafeCheckpoint(f"{folder}: an adapter, which names another checkpoint; merge it first")
    if not weight_files(folder):
        raise UnsafeCheckpoint(f"{folder}: no {WEIGHTS}; pickled weights (*.bin, *.pt) are not loaded")
    return folder


def _check_links(folder: Path) -> None:
    """Nothing leads out of the folder; in the hub's cache, a snapshot's files lead to the same model's blobs."""
    root = _hub_folder(folder.resolve()) or folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise UnsafeCheckpoint(f"{path}: a link to {path.resolve()}, outside {root}")


def _hub_folder(folder: Path) -> Path | None:
    """`models--ORG--NAME` of `models--ORG--NAME/snapshots/COMMIT`; None for a folder of another layout."""
    model = folder.parent.parent
    is_snapshot = folder.parent.name == "snapshots" and model.name.startswith("models--")
    return model if is_snapshot else None


def _shard_names(folder: Path) -> list[str]:
    """The files that the index names; none where there is no index."""
    index = folder / INDEX
    names = _indexed(index) if index.is_file() else []
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UnsafeCheckpoint(f"{index}: expected names of .safetensors files beside it, got {name!r}")
    return names


def _indexed(index: Path) -> list[str]:
    try:
        shards = json.loads(index.read_text())["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index}: expected JSON with a weight_map from tensors to files, got {error!r}"
        ) from None
    if strange := [shard for shard in shards if not isinstance(shard, str)]:
        raise CheckpointError(f"{index}: expected names of files in weight_map, got {strange[0]!r}")
    return sorted(set(shards))
