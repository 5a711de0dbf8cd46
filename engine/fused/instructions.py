"""Owns the binary form of a program and of a step, as `engine/native/program.h` has it. Knows nothing of models."""

from __future__ import annotations

import ctypes
from enum import IntEnum

POINTER, INT32, FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float


class Kind(IntEnum):
    """What an operation does; see `OpKind`."""

    EMBED = 0
    NORM = 1
    LINEAR = 2
    ROTATE_WRITE = 3
    ATTEND = 4
    NORM_ADD = 5
    ADD = 6
    CAP = 7


class Epilogue(IntEnum):
    """What becomes of a linear layer's sums."""

    STORE = 0
    ACCUMULATE = 1
    ACTIVATE = 2
    GATE = 3


class Activation(IntEnum):
    """Between the two halves of an MLP."""

    SILU = 0
    GELU_TANH = 1
    GELU = 2
    RELU = 3


WANTED_ROWS = 1
LAYER_NORM = 2


class Op(ctypes.Structure):
    """One operation; the fields of other kinds stay 0."""

    _fields_ = [
        *((name, INT32) for name in ("kind", "flags", "epilogue", "activation")),
        *((name, POINTER) for name in ("source", "target", "queries", "weight", "bias", "query_norm", "key_norm")),
        *((name, POINTER) for name in ("cosines", "sines", "cache")),
        *((name, INT32) for name in ("n", "k", "source_stride", "target_stride")),
        *((name, INT32) for name in ("num_heads", "num_kv_heads", "head_dim", "rotary_dim", "window")),
        *((name, FLOAT) for name in ("epsilon", "scale", "softcap")),
        ("width", INT32),
    ]


class StepArrays(ctypes.Structure):
    """A step; every pointer is to int32."""

    _fields_ = [
        *((name, INT32) for name in ("num_tokens", "num_rows", "num_chunks", "block_size")),
        *((name, POINTER) for name in ("token_ids", "positions", "slots", "rows")),
        *((name, POINTER) for name in ("starts", "lengths", "first_rows", "tables", "first_blocks")),
    ]
