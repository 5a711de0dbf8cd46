"""Measures what the device at hand can do at most: copies and one large product. Knows nothing of models."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class CardSpeed:
    """copy_bytes_per_s: read and written. operations_per_s: of one product of square matrices in the model's type."""

    name: str
    copy_bytes_per_s: float
    operations_per_s: float


def measure_card(device: str, dtype: str) -> CardSpeed:
    on_gpu = device == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    num_bytes, size = (2 << 30, 8192) if on_gpu else (64 << 20, 512)
    source = torch.ones(num_bytes // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    copy_s = _median_s(lambda: target.copy_(source), device)
    matrix = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    product_s = _median_s(lambda: matrix @ matrix, device)
    return CardSpeed(name, 2 * num_bytes / copy_s, 2 * size**3 / product_s)


def _median_s(work: Callable[[], object], device: str) -> float:
    times = [_timed(work, device) for _ in range(_ROUNDS)]
    return statistics.median(times[2:])


def _timed(work: Callable[[], object], device: str) -> float:
    _wait(device)
    began_s = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began_s


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
