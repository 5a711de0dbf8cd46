"""Tests for which batch sizes decodes are recorded, and which of them a step takes."""

from __future__ import annotations

import pytest

from engine.cuda.buckets import bucket_for, bucket_sizes


def test_small_batches_have_buckets_of_their_own_and_larger_ones_every_eighth() -> None:
    assert bucket_sizes(32) == (1, 2, 4, 8, 16, 24, 32)


def test_very_large_batches_have_every_thirty_second() -> None:
    assert bucket_sizes(330)[-4:] == (256, 288, 320, 330)


@pytest.mark.parametrize(
    ("max_num_seqs", "sizes"), [(1, (1,)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (20, (1, 2, 4, 8, 16, 20))]
)
def test_the_last_bucket_is_the_most_that_the_engine_runs(max_num_seqs: int, sizes: tuple[int, ...]) -> None:
    assert bucket_sizes(max_num_seqs) == sizes


@pytest.mark.parametrize("max_num_seqs", [1, 5, 32, 256, 1000])
def test_every_batch_goes_into_the_smallest_bucket_that_holds_it(max_num_seqs: int) -> None:
    sizes = bucket_sizes(max_num_seqs)
    assert list(sizes) == sorted(set(sizes))
    for num_rows in range(1, max_num_seqs + 1):
        assert bucket_for(num_rows, sizes) == min(size for size in sizes if size >= num_rows)


def test_nothing_and_too_much_have_no_bucket() -> None:
    assert bucket_for(0, (1, 2)) is None
    assert bucket_for(3, (1, 2)) is None
