"""Owns how a step's integers reach the device: packed into one pinned buffer, in one copy. Knows no models or steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

#: int32 or int64.
IntegerArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]
_WORD_BYTES = 8
#: Each array begins at a multiple of this, as kernels that read several integers at once like it.
_ALIGNED_WORDS = 2


def upload(arrays: Sequence[IntegerArray], device: torch.device) -> list[torch.Tensor]:
    """The arrays as tensors on the device. On a GPU the host does not wait for the copy."""
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    return views(pack(arrays, pinned=True).to(device, non_blocking=True), arrays)


def pack(arrays: Sequence[IntegerArray], *, pinned: bool) -> torch.Tensor:
    """One buffer of 8-byte words on the host with all arrays in it.

    Pinned memory comes from torch, which gives it out again only when copies from it have ended: a step may be packed
    while the last one's copy is still under way.
    """
    words = torch.empty(num_words(arrays), dtype=torch.int64, pin_memory=pinned)
    for view, array in zip(views(words, arrays), arrays, strict=True):
        view.numpy()[...] = array
    return words


def views(words: torch.Tensor, arrays: Sequence[IntegerArray]) -> list[torch.Tensor]:
    """Where each array lies in a buffer of words, as a tensor of its type and shape."""
    found, start = [], 0
    for array in arrays:
        end = start + _words_of(array)
        dtype = torch.int32 if array.dtype == np.int32 else torch.int64
        found.append(words[start:end].view(dtype)[: array.size].view(array.shape))
        start = end
    return found


def num_words(arrays: Sequence[IntegerArray]) -> int:
    return sum(_words_of(array) for array in arrays)


def _words_of(array: IntegerArray) -> int:
    assert array.dtype in (np.int32, np.int64), f"expected int32 or int64, got {array.dtype}"
    return -(-array.nbytes // (_WORD_BYTES * _ALIGNED_WORDS)) * _ALIGNED_WORDS
