"""The tensor-parallel benchmark: both sides with a tiny model, and the ratios of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tensor_parallel import Pairs, TensorParallelReport, compare
from fastserve.machine import this_machine
from tests.engine.tiny_models import make_tiny_model


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_both_sides_generate_at_every_number_of_sequences(tmp_path: Path) -> None:
    found = compare("tiny", str(make_tiny_model(tmp_path, "llama", vocab_size=40_200)), [1, 3], num_pairs=2)
    assert [pairs.num_sequences for pairs in found] == [1, 3]
    assert all(len(pairs.whole) == len(pairs.split) == 2 and min(pairs.ratios) > 0 for pairs in found)


def test_the_report_gives_the_median_of_the_pairs_ratios() -> None:
    pairs = Pairs("m", 8, whole=[100.0, 200.0, 100.0], split=[50.0, 150.0, 90.0])
    text = TensorParallelReport("2026-01-01", "python", "abc", this_machine(), [pairs]).to_markdown()
    assert "| m | 8 | 0.75 (0.50 to 0.90) | 100.0 | 90.0 |" in text
