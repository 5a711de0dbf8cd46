"""Owns the checks before a start: the file is right, each model's checkpoint is there. Starts nothing."""

from __future__ import annotations

from pathlib import Path

from deployments.serve_config import load_serve_config
from engine.checkpoint import resolve
from fastserve.launcher import Expected, ServiceAddress


def check_start(path: Path) -> Expected:
    """What to expect of the service that `path` describes. Fetches checkpoints from the hub where the file names one.

    Raises:
        ConfigError: the file is wrong.
        CheckpointError: a model cannot be served, and why; there is no fallback.
    """
    config = load_serve_config(path)
    for model in config.serving.models:
        resolve(model.source)
    return Expected(ServiceAddress(config.host, config.port), config.max_open_requests)
