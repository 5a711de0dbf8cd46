"""Owns how a command ends: errors that were meant for people are printed without a traceback, and end it with 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from deployments.config_errors import ConfigError
from engine.checkpoint import CheckpointError
from fastserve.errors import FastServeError

err = Console(stderr=True)


@contextmanager
def errors_as_exit_code(*more: type[Exception]) -> Iterator[None]:
    """more: what else is meant for people."""
    meant: tuple[type[Exception], ...] = (FastServeError, ConfigError, CheckpointError, *more)
    try:
        yield
    except meant as error:
        err.print(Text("error: ", style="red"), Text(str(error)), sep="", soft_wrap=True)
        raise typer.Exit(1) from None
