"""Owns which service a benchmark speaks to, and how a benchmark ends on a user's mistake. Sends no load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from benchmarks.service import shipped_service
from deployments.config_errors import ConfigError
from fastserve.errors import FastServeError


@dataclass(frozen=True, slots=True)
class Target:
    """The service that is measured. started_s: when its command was given, if this process gave it."""

    base_url: str
    started_s: float | None
    settings: dict[str, object] | None


@contextlib.contextmanager
def measured_service(config: Path, base_url: str | None, model: str | None, ready_within_s: float) -> Iterator[Target]:
    """The service at `base_url`, or one of our own that serves `config` until the block ends.

    Raises:
        ConfigError: the configuration is wrong.
        ServerFailed: the service did not start.
    """
    if base_url is not None:
        yield Target(base_url, None, None)
        return
    from deployments.serve_config import load_serve_config

    loaded = load_serve_config(config)
    served = [each for each in loaded.serving.models if model in (None, each.name)]
    settings = served[0].model_dump(exclude={"source"}) if served else None
    with shipped_service(loaded.document, ready_within_s) as service:
        yield Target(service.base_url, service.started_s, settings)


@contextlib.contextmanager
def errors_as_exit_code(err: Console, *others: type[Exception]) -> Iterator[None]:
    """What a user can put right ends with 2 and one line. others: what else that is."""
    named: tuple[type[Exception], ...] = (FastServeError, ConfigError, *others)
    try:
        yield
    except named as error:
        err.print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        raise typer.Exit(2) from None
