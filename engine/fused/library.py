"""Owns the calls into the native library. Knows nothing of models, nor of how it was compiled."""

from __future__ import annotations

import ctypes
from functools import cache

import torch

from engine.fused.compiled import NoNativeLibrary, check_processor, compiled_library
from engine.fused.instructions import Op, StepArrays


class NativeLibrary:
    """The calls, for one type of weights."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        name = str(dtype).removeprefix("torch.")
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self.dtype = dtype
        self._pack = getattr(library, f"fastserve_pack_{name}")
        self._pack.argtypes, self._pack.restype = [pointer, number, number, number, pointer], None
        self._run = getattr(library, f"fastserve_run_{name}")
        self._run.argtypes, self._run.restype = [pointer, number, pointer], None

    def pack(self, weight: torch.Tensor, padded_outputs: int, padded_inputs: int) -> torch.Tensor:
        """The packed form of [outputs, inputs], padded with zeros; see `native/linear.h`."""
        weight = weight.to(self.dtype).contiguous()
        packed = torch.empty(padded_outputs * padded_inputs, dtype=self.dtype)
        self._pack(weight.data_ptr(), *weight.shape, padded_inputs, packed.data_ptr())
        return packed

    def run(self, ops: ctypes.Array[Op], step: StepArrays) -> None:
        """Runs a program. Whoever calls holds no lock of Python's meanwhile."""
        self._run(ops, len(ops), ctypes.byref(step))


def load_library(dtype: torch.dtype) -> NativeLibrary:
    """Compiles where that has not been done, and loads.

    Raises:
        NoNativeLibrary: with the reason.
    """
    check_processor(str(dtype).removeprefix("torch."))
    return NativeLibrary(_loaded(), dtype)


@cache
def _loaded() -> ctypes.CDLL:
    library = ctypes.CDLL(str(compiled_library()))
    sizes = library.fastserve_op_bytes(), library.fastserve_step_bytes()
    expected = ctypes.sizeof(Op), ctypes.sizeof(StepArrays)
    if sizes != expected:
        raise NoNativeLibrary(f"instructions of {sizes} bytes; expected {expected}")
    return library
