"""Says whether the native program runs here, for the tests that need it."""

from __future__ import annotations

import pytest
import torch

from engine.fused.compiled import NoNativeLibrary
from engine.fused.library import load_library


def why_not() -> str:
    """Why this machine cannot run it; empty where it can."""
    try:
        load_library(torch.bfloat16, num_threads=2)
    except NoNativeLibrary as error:
        return str(error)
    return ""


needs_native = pytest.mark.skipif(bool(why_not()), reason=f"no native program here: {why_not()}")
