"""Tests memory by the page: what is taken fresh, and what goes back to the system."""

from __future__ import annotations

import mmap

import torch

from engine.fused.pages import LargePages, fresh_pages, give_back, tensor_over


def test_large_pages_hand_out_zeros_that_do_not_overlap_and_begin_at_a_cache_line() -> None:
    pages = LargePages()
    tensors = [pages.zeros(shape, torch.bfloat16) for shape in [(3, 5), (1, 1), (64, 64), (40 << 20,), (7,)]]
    for number, tensor in enumerate(tensors, 1):
        assert tensor.data_ptr() % 64 == 0
        assert not tensor.any()
        tensor.fill_(number)
    assert [float(tensor.float().mean()) for tensor in tensors] == [1, 2, 3, 4, 5]


def test_pages_stay_while_a_tensor_lies_over_them() -> None:
    tensor = tensor_over(fresh_pages(4 * mmap.PAGESIZE), (8,), torch.float32, offset=mmap.PAGESIZE)
    tensor.fill_(2.0)
    assert tensor.sum() == 16.0


def test_only_the_pages_that_a_tensor_covers_wholly_go_back() -> None:
    width = mmap.PAGESIZE // 4
    whole = tensor_over(fresh_pages(4 * mmap.PAGESIZE), (4, width), torch.float32)
    whole.fill_(1.0)
    give_back(whole.view(-1)[width // 2 : 3 * width + width // 2])
    assert [bool(row.any()) for row in whole] == [True, False, False, True]
    assert whole[0].all()
    assert whole[3].all()


def test_a_tensor_of_less_than_a_page_is_left_alone() -> None:
    tensor = torch.ones(8)
    give_back(tensor)
    assert tensor.all()
