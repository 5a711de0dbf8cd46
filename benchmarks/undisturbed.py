"""Owns keeping this process's own pauses out of what it measures. Knows nothing of what that is."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """No search for cycles meanwhile: with a million recorded events each takes longer than a sender may be late."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
