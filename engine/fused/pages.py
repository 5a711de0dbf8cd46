"""Owns memory by the page: taken fresh from the system, and given back to it. Knows nothing of what lies there."""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap

import numpy as np
import torch

_LARGE_PAGE_BYTES = 2 << 20
_CHUNK_BYTES = 64 << 20
_LINE_BYTES = 64
_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def fresh_pages(num_bytes: int) -> mmap.mmap:
    """Zeros, from the start of a page on, that cost memory only once touched."""
    return mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def tensor_over(pages: mmap.mmap, shape: tuple[int, ...], dtype: torch.dtype, offset: int = 0) -> torch.Tensor:
    """A tensor over a part of the pages, which stay as long as it does."""
    num_bytes = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.frombuffer(pages, np.uint8, num_bytes, offset)).view(dtype).view(shape)


class LargePages:
    """Zeros one after another in pages of 2 MiB, where the system has them: for what every step reads from front to
    back, a translation is then looked up 512 times less often, and the memory is there sooner."""

    def __init__(self) -> None:
        self._pages = fresh_pages(1)
        self._used = len(self._pages)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """They begin at the start of a cache line."""
        num_bytes = -(-math.prod(shape) * dtype.itemsize // _LINE_BYTES) * _LINE_BYTES
        if self._used + num_bytes > len(self._pages):
            self._pages = fresh_pages(max(_CHUNK_BYTES, num_bytes + _LARGE_PAGE_BYTES))
            with contextlib.suppress(OSError):  # a system without them
                self._pages.madvise(mmap.MADV_HUGEPAGE)
            self._used = 0
        found = tensor_over(self._pages, shape, dtype, self._used)
        self._used += num_bytes
        return found


def give_back(tensor: torch.Tensor) -> None:
    """Lets the system have the whole pages that the tensor covers; what it holds is undefined from then on.

    tensor: contiguous; nothing else may lie in its memory.
    """
    begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if begin < end and _madvise(begin, end - begin, mmap.MADV_DONTNEED) != 0:
        raise OSError(ctypes.get_errno(), "madvise(MADV_DONTNEED)")
