"""Owns the batch sizes for which decodes are captured. Pure arithmetic: knows nothing of graphs or tensors."""

from __future__ import annotations

from bisect import bisect_left

_SMALL_SIZES = (1, 2, 4)
#: Fine steps where padding costs a visible share of the batch, coarse ones beyond.
_FINE_STEP, _FINE_UP_TO, _COARSE_STEP = 8, 256, 32


def bucket_sizes(max_num_seqs: int) -> tuple[int, ...]:
    """1, 2, 4, 8, 16, 24, ... 256, 288, ..., ascending; the last is `max_num_seqs` itself."""
    fine = range(_FINE_STEP, _FINE_UP_TO + 1, _FINE_STEP)
    coarse = range(_FINE_UP_TO + _COARSE_STEP, max_num_seqs, _COARSE_STEP)
    return (*(size for size in (*_SMALL_SIZES, *fine, *coarse) if size < max_num_seqs), max_num_seqs)


def bucket_for(num_rows: int, sizes: tuple[int, ...]) -> int | None:
    """The smallest of the ascending sizes that holds the rows; None where none does."""
    at = bisect_left(sizes, num_rows)
    return sizes[at] if num_rows and at < len(sizes) else None
