"""Tests that arrays packed into one buffer come out as they went in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.packed_arrays import num_words, pack, upload, views
from tests.engine.playing import CPU

ARRAYS = [
    np.arange(7, dtype=np.int64)[None],
    np.array([2**31 - 1, -5, 9], np.int32),
    np.empty(0, np.int64),
    np.arange(-6, 6, dtype=np.int32).reshape(3, 4),
]


def test_what_is_packed_is_found_again_with_its_type_and_shape() -> None:
    for view, array in zip(views(pack(ARRAYS, pinned=False), ARRAYS), ARRAYS, strict=True):
        np.testing.assert_array_equal(view.numpy(), array, strict=True)


def test_every_array_begins_at_sixteen_bytes() -> None:
    words = torch.zeros(num_words(ARRAYS), dtype=torch.int64)
    offsets = [view.storage_offset() * view.element_size() for view in views(words, ARRAYS)]
    assert [offset % 16 for offset in offsets] == [0] * 4


def test_on_cpu_nothing_is_copied() -> None:
    assert [np.shares_memory(t.numpy(), a) for t, a in zip(upload(ARRAYS[:1], CPU), ARRAYS, strict=False)] == [True]


def test_other_types_are_refused() -> None:
    with pytest.raises(AssertionError, match="expected int32 or int64, got int16"):
        pack([np.zeros(2, np.int16)], pinned=False)
