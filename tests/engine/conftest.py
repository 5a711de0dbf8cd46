"""Fixtures of the engine's tests: tiny models, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model of a family, e.g. `tiny_model("llama")`."""
    root = tmp_path_factory.mktemp("tiny-models")

    def folder(family: str) -> Path:
        from tests.engine.tiny_models import make_tiny_model

        return root / family if (root / family).exists() else make_tiny_model(root / family, family)

    return folder
