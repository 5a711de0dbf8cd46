"""The loading benchmark: a real load of a tiny model, and what the report makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.loading import Load, LoadingReport, load_once, read_twice
from fastserve.machine import this_machine
from fastserve.own_process import in_process
from tests.engine.tiny_models import make_tiny_model


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_load_in_its_own_process_gives_times_and_bytes(tmp_path: Path) -> None:
    load = in_process(load_once, str(make_tiny_model(tmp_path, "llama")), timeout_s=240)
    assert min(load.load_s, load.first_read_s, load.again_s) > 0
    assert load.peak_bytes > load.kept_bytes > 10_000


def test_both_readings_read_every_file(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for path in files:
        path.write_bytes(bytes(100))
    assert min(read_twice(files)) > 0
    files[1].unlink()
    with pytest.raises(FileNotFoundError):
        read_twice(files)


def test_the_report_gives_medians_of_ratios() -> None:
    loads = [Load(load, 1.0, 0.5, peak, 100 << 20) for load, peak in [(2.0, 150 << 20), (3.0, 120 << 20), (9.0, 0)]]
    report = LoadingReport("2026-01-01", "python", "abc", this_machine(), "m", loads)
    text = report.to_markdown()
    assert "| reading the files into fresh memory | 1.000 s; loading 3.0 times |" in text
    assert "| reading them into memory that is there | 0.500 s; loading 6.0 times |" in text
    assert "| most memory while loading | 120 MiB, 1.20 times the parameters |" in text
