"""Owns the calls into the native library. Knows nothing of models, nor of how it was compiled."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import torch

from engine.fused.compiled import NoNativeLibrary, check_processor, compiled_library
from engine.fused.instructions import Op, StepArrays


class NativeLibrary:
    """The calls, for one type of weights.

    num_threads: how many run a program together, see `native/team.h`.
    """

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype, num_threads: int) -> None:
        name = str(dtype).removeprefix("torch.")
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self.dtype = dtype
        self._num_threads = num_threads
        self._pack = getattr(library, f"fastserve_pack_{name}")
        self._pack.argtypes, self._pack.restype = [pointer, *3 * [number], pointer, *3 * [number]], None
        self._run = getattr(library, f"fastserve_run_{name}")
        self._run.argtypes, self._run.restype = [pointer, number, pointer, number], None
        self._best, self._draw = library.fastserve_best, library.fastserve_draw
        self._best.argtypes, self._best.restype = (
            [pointer, ctypes.c_long, number, number, pointer, pointer, number],
            None,
        )
        self._draw.argtypes = [pointer, ctypes.c_long, number, number, pointer, pointer, pointer, number]
        self._draw.restype = None

    def pack(self, weight: torch.Tensor, packed: torch.Tensor, first_output: int = 0, panel_step: int = 1) -> None:
        """Writes [outputs, inputs] among the zeros of `packed`, [padded outputs, padded inputs], from `first_output` on
        in every `panel_step`-th panel; see `native/linear.h`."""
        weight = weight.to(self.dtype).contiguous()
        ends = (packed.shape[1], packed.data_ptr(), first_output, panel_step)
        self._pack(weight.data_ptr(), *weight.shape, *ends, self._num_threads)

    def best(self, logits: torch.Tensor) -> list[tuple[float, int]]:
        """See `TokenSearch`."""
        ids, values = np.empty(len(logits), np.int32), np.empty(len(logits), np.float32)
        self._best(*_rows(logits), ids.ctypes.data, values.ctypes.data, self._num_threads)
        return list(zip(values.tolist(), ids.tolist(), strict=True))

    def draw(self, logits: torch.Tensor, temperatures: list[float], uniforms: list[float]) -> list[int | None]:
        """See `TokenSearch`."""
        scales, shares = np.array(temperatures, np.float32), np.array(uniforms, np.float64)
        ids = np.empty(len(logits), np.int32)
        self._draw(*_rows(logits), scales.ctypes.data, shares.ctypes.data, ids.ctypes.data, self._num_threads)
        return [token_id if token_id >= 0 else None for token_id in ids.tolist()]

    def run(self, ops: ctypes.Array[Op], step: StepArrays) -> None:
        """Runs a program. Whoever calls holds no lock of Python's meanwhile."""
        self._run(ops, len(ops), ctypes.byref(step), self._num_threads)


def _rows(logits: torch.Tensor) -> tuple[int, int, int, int]:
    """Where rows of float32 lie: the first, elements from one to the next, their width, their number."""
    assert logits.dtype == torch.float32 and logits.stride(1) == 1, "rows of float32, each in one piece"
    return logits.data_ptr(), logits.stride(0), logits.shape[1], logits.shape[0]


def load_library(dtype: torch.dtype, num_threads: int) -> NativeLibrary:
    """Compiles where that has not been done, and loads.

    Raises:
        NoNativeLibrary: with the reason.
    """
    check_processor(str(dtype).removeprefix("torch."))
    try:
        return NativeLibrary(_loaded(), dtype, num_threads)
    except (OSError, AttributeError) as error:  # it cannot be mapped, or the compiler knew no bfloat16
        raise NoNativeLibrary(str(error)) from error


@cache
def _loaded() -> ctypes.CDLL:
    library = ctypes.CDLL(str(compiled_library()))
    sizes = library.fastserve_op_bytes(), library.fastserve_step_bytes()
    expected = ctypes.sizeof(Op), ctypes.sizeof(StepArrays)
    if sizes != expected:
        raise NoNativeLibrary(f"instructions of {sizes} bytes; expected {expected}")
    return library
