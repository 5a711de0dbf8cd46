"""Skips what this machine has too few CUDA devices for. `@pytest.mark.gpu(2)` needs two, `@pytest.mark.gpu` one."""

from __future__ import annotations

import pytest
import torch


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("gpu")
    if marker is not None and (reason := too_few(*marker.args, found=torch.cuda.device_count())):
        pytest.skip(reason)


def too_few(needed: int = 1, *, found: int) -> str | None:
    """Why a test that needs so many devices cannot run; None where it can."""
    if found >= needed:
        return None
    return f"needs {needed} CUDA device{'s' if needed > 1 else ''}, found {found}"
