"""Owns reading `serve_config.yaml` whole and saying everything that is wrong with it. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments.config import ServingConfig
from deployments.config_errors import ConfigError
from deployments.key_source import KeySource
from deployments.problems import Problem, insides_withheld, model_in, problems_of, unknown_key, without_insides
from deployments.scaling_settings import scaling_problems
from deployments.serve_fields import deployment_problems, http_problems, max_replicas, shape_problems
from deployments.unique_keys import UniqueKeys
from deployments.user_config import INGRESS_NAME, IngressUserConfig, parse_user_config

IMPORT_PATH = "deployments.app:build"
_IMPORT_PATHS = (IMPORT_PATH, IMPORT_PATH.replace(":", "."))  # both are Serve's


@dataclass(frozen=True, slots=True)
class ValidatedServeConfig:
    """A file with nothing wrong in it.

    document: the file itself, as Ray Serve takes it. max_open_requests: as many as may wait or run at the same time.
    """

    document: dict[str, Any]
    app_name: str
    serving: ServingConfig
    user_config: IngressUserConfig
    host: str
    port: int
    max_open_requests: int


@dataclass(frozen=True, slots=True)
class _Application:
    """Our application's place in the file, and what stands there."""

    path: str
    fields: dict[str, Any]

    def deployments(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for place, fields in enumerate(self.fields.get("deployments") or []):
            yield f"{self.path}.deployments[{place}]", fields


def load_serve_config(path: str | Path) -> ValidatedServeConfig:
    """The file's settings, checked as the service checks them.

    Raises:
        ConfigError: with every problem found: unreadable, no YAML, unknown keys, wrong values.
    """
    document = _read(Path(path))
    schema = _serve_schema(document)
    application = _our_application(document)
    serving, user_config, problems = _our_settings(application)
    found = [*_unknown_keys(ServeDeploySchema, document, ""), *http_problems(schema), *problems]
    if found or serving is None or user_config is None:
        raise ConfigError(found)
    name = str(application.fields.get("name", "default"))
    options = schema.http_options
    max_open = _max_open_requests(application, serving, user_config)
    return ValidatedServeConfig(document, name, serving, user_config, options.host, options.port, max_open)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(), UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(str(path), str(error), "a readable file") from None
    except yaml.MarkedYAMLError as error:
        line = "?" if error.problem_mark is None else error.problem_mark.line + 1
        raise _wrong(str(path), f"{error.problem} in line {line}", "valid YAML") from None
    except yaml.YAMLError as error:
        raise _wrong(str(path), str(error), "valid YAML") from None
    if not isinstance(document, dict):
        raise _wrong(str(path), without_insides(document), "an object with a key 'applications'")
    return document


def _serve_schema(document: dict[str, Any]) -> ServeDeploySchema:
    if misshapen := list(shape_problems(document)):
        raise ConfigError(misshapen)
    try:
        return ServeDeploySchema.model_validate(document)
    except ValidationError as error:
        raise ConfigError(problems_of(error, ServeDeploySchema, shown=insides_withheld)) from None


def _our_application(document: dict[str, Any]) -> _Application:
    """The one application that is ours; others may stand beside it."""
    paths = [fields.get("import_path") for fields in document["applications"]]
    ours = [place for place, path in enumerate(paths) if path in _IMPORT_PATHS]
    if not ours:
        raise _wrong("applications[0].import_path", paths, IMPORT_PATH)
    if len(ours) > 1:
        expected = f"{IMPORT_PATH} in one application only; several models may stand in its args"
        raise _wrong(f"applications[{ours[1]}].import_path", paths[ours[1]], expected)
    return _Application(f"applications[{ours[0]}]", document["applications"][ours[0]])


def _our_settings(
    application: _Application,
) -> tuple[ServingConfig | None, IngressUserConfig | None, list[Problem]]:
    problems: list[Problem] = []
    serving: ServingConfig | None = None
    try:
        context = {"path": f"{application.path}.args"}
        serving = ServingConfig.model_validate(application.fields.get("args", {}), context=context)
        problems += _wrong_deployments(application, serving)
    except ConfigError as error:
        problems += error.problems
    try:
        return serving, _user_config(application), problems
    except ConfigError as error:
        return serving, None, [*problems, *error.problems]


def _max_open_requests(application: _Application, serving: ServingConfig, user_config: IngressUserConfig) -> int:
    """Every model has a queue of its own, and slots on each of its replicas."""
    replicas = {fields["name"]: max_replicas(fields) for _, fields in application.deployments()}
    waiting = user_config.bounds.max_waiting * len(serving.models)
    return waiting + sum(model.max_num_seqs * replicas.get(model.name, 1) for model in serving.models)


def _user_config(application: _Application) -> IngressUserConfig:
    for path, fields in application.deployments():
        if fields.get("name") == INGRESS_NAME:
            source = KeySource(fields.get("user_config"), path=f"{path}.user_config")
            source.check_what_is_here()
            return source.settings
    return parse_user_config(None)


def _wrong_deployments(application: _Application, serving: ServingConfig) -> Iterator[Problem]:
    known = serving.deployment_names
    seen: set[str] = set()
    for path, fields in application.deployments():
        name = fields["name"]
        if name not in known:
            yield Problem(f"{path}.name", "invalid", name, f"one of {', '.join(known)}")
            continue
        if name in seen:
            yield Problem(f"{path}.name", "invalid", name, "each name once: Serve would take the last entry's fields")
        seen.add(name)
        yield from deployment_problems(path, fields, is_model=name != INGRESS_NAME)
        scaling = fields.get("autoscaling_config") or {}
        yield from scaling_problems(f"{path}.autoscaling_config", scaling, is_model=name != INGRESS_NAME)
        if name != INGRESS_NAME and fields.get("user_config") is not None:
            value = without_insides(fields["user_config"])
            yield Problem(f"{path}.user_config", "invalid", value, f"none: only {INGRESS_NAME} has one")


def _unknown_keys(model: type[BaseModel], value: object, path: str) -> Iterator[Problem]:
    """Keys that Ray Serve would take without a word and never read."""
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from _unknown_keys(model, one, f"{path}[{place}]")
    if not isinstance(value, dict):
        return
    for key, below in value.items():
        below_path = f"{path}.{key}" if path else str(key)
        if key not in model.model_fields:
            yield unknown_key(below_path, str(key), without_insides(below), list(model.model_fields))
        elif (inner := model_in(model.model_fields[key].annotation)) is not None:
            yield from _unknown_keys(inner, below, below_path)


def _wrong(path: str, value: object, expected: str) -> ConfigError:
    return ConfigError([Problem(path, "invalid", value, expected)])
