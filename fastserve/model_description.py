"""Owns naming a model so that it can be served: resolved and checked, not loaded. Knows nothing of servers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoint import EMBEDDED_PREFIX, models_folder, resolve
from fastserve.embedded_model import EMBEDDED_MODELS, install

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model whose checkpoint is on this machine. Its weights are read when a server starts, not before.

    name: what a request's `model` says. source: what a configuration file says. folder: where the checkpoint lies.
    """

    name: str
    source: str
    folder: Path


def load_model(name: str) -> ModelDescription:
    """Finds the checkpoint of an embedded model's name, `embedded:NAME`, a folder or a hub id, fetching it if need be.

    Raises:
        CheckpointError: there is no such model, or it is not one that can be served.
        EmbeddedModelError: an embedded model could not be fetched.
    """
    embedded = EMBEDDED_MODELS.get(name.removeprefix(EMBEDDED_PREFIX))
    if embedded is not None:
        folder = install(embedded, models_folder())
        return ModelDescription(embedded.name, f"{EMBEDDED_PREFIX}{embedded.name}", folder)
    folder = resolve(name)
    source = str(folder.resolve()) if Path(name).expanduser().is_dir() else name
    return ModelDescription(_NOT_IN_NAMES.sub("-", Path(name).name), source, folder)
