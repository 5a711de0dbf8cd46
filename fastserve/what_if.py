"""Owns changes to a configuration that are only to be tried: how they are written, and made in a file's document."""

from __future__ import annotations

import copy
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployments.config_errors import ConfigError
from deployments.problems import Problem
from deployments.serve_config import IMPORT_PATH, ValidatedServeConfig, load_serve_config
from deployments.user_config import INGRESS_NAME

#: Where a change is made: in the model's own settings, in what changes live, or in how the model is deployed.
_PLACES = ("model", "user_config", "deployment")
_BETWEEN_CHANGES = re.compile(rf",\s*(?=(?:{'|'.join(_PLACES)})\.)")  # a value may have commas too


@dataclass(frozen=True, slots=True)
class Change:
    """One setting as it would be: `user_config.beta=0.2` has the place `user_config` and one key."""

    place: str
    keys: tuple[str, ...]
    value: object


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A name for a configuration with some settings changed."""

    name: str
    changes: tuple[Change, ...]


def parse_what_if(text: str) -> WhatIf:
    """`NAME: PLACE.KEY=VALUE, ...`, or without a name; a value is written as in YAML.

    Raises:
        ConfigError: it is not of this form.
    """
    name, colon, rest = text.partition(": ")
    changes = tuple(map(_parse_change, _BETWEEN_CHANGES.split(rest if colon else text)))
    return WhatIf(name.strip() if colon else text.strip(), changes)


def load_changed(path: Path, what_if: WhatIf, model: str) -> ValidatedServeConfig:
    """The file as it would be; what comes out is checked as any other.

    Raises:
        ConfigError: with every problem.
    """
    document = copy.deepcopy(load_serve_config(path).document)
    for change in what_if.changes:
        _apply(_settings_at(document, change.place, model), change)
    with tempfile.TemporaryDirectory(prefix="fastserve-what-if-") as folder:
        changed = Path(folder) / path.name
        changed.write_text(yaml.safe_dump(document))
        return load_serve_config(changed)


def our_application(document: dict[str, Any]) -> dict[str, Any]:
    """The one application of a checked document that is ours."""
    paths = (IMPORT_PATH, IMPORT_PATH.replace(":", "."))
    found: dict[str, Any] = next(each for each in document["applications"] if each.get("import_path") in paths)
    return found


def _parse_change(text: str) -> Change:
    path, equals, value = text.partition("=")
    place, *keys = path.strip().split(".")
    if not equals or place not in _PLACES or not keys or not all(keys):
        expected = f"PLACE.KEY=VALUE, where PLACE is {', '.join(_PLACES[:-1])} or {_PLACES[-1]}"
        raise ConfigError([Problem("--what-if", "invalid", text.strip(), expected)])
    try:
        return Change(place, tuple(keys), yaml.safe_load(value))
    except yaml.YAMLError:
        raise ConfigError([Problem(f"--what-if {path.strip()}", "invalid", value, "a value as in YAML")]) from None


def _settings_at(document: dict[str, Any], place: str, model: str) -> dict[str, Any]:
    application = our_application(document)
    if place == "model":
        found: dict[str, Any] = next(each for each in application["args"]["models"] if each["name"] == model)
        return found
    deployment = _deployment(application, INGRESS_NAME if place == "user_config" else model)
    if place == "deployment":
        return deployment
    settings: dict[str, Any] = deployment.setdefault("user_config", {})
    return settings


def _deployment(application: dict[str, Any], name: str) -> dict[str, Any]:
    """Made where the file has none."""
    deployments: list[dict[str, Any]] = application.setdefault("deployments", [])
    found = next((each for each in deployments if each["name"] == name), None)
    if found is None:
        found = {"name": name}
        deployments.append(found)
    return found


def _apply(settings: dict[str, Any], change: Change) -> None:
    inner = settings
    for key in change.keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[change.keys[-1]] = change.value
    if change.place == "deployment" and change.keys == ("num_replicas",):
        settings.pop("autoscaling_config", None)  # Serve takes one of the two
