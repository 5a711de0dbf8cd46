"""How the growth of a service's memory under load is told from samples."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.memory import MemorySample, MemoryWatch, sample, watched_memory


def grown(*totals: int, every_s: float = 10.0) -> MemoryWatch:
    return MemoryWatch([MemorySample(i * every_s, {"ingress": each, "raylet": 100}) for i, each in enumerate(totals)])


def test_growth_counts_from_the_end_of_the_first_minute() -> None:
    watch = grown(*[100] * 6, *[900] * 50, *[990] * 5)
    growth = watch.growth(600.0)
    assert growth is not None
    assert (growth.first_bytes, growth.last_bytes) == (1000, 1090)
    assert growth.share == pytest.approx(0.09)
    assert growth.by_process == {"ingress": 90, "raylet": 0}


def test_one_sample_that_stands_out_is_no_growth() -> None:
    watch = grown(*[900] * 60, 5000)
    growth = watch.growth(600.0)
    assert growth is not None
    assert growth.share == 0


def test_of_a_short_load_nothing_is_said() -> None:
    assert grown(*[900] * 20).growth(100.0) is None
    assert MemoryWatch().growth(600.0) is None


def test_the_processes_below_this_one_are_looked_at() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        with watched_memory(every_s=0.01) as watch:
            while not watch.samples:
                child.poll()
        assert any(title.startswith("python") for title in watch.samples[0].resident_bytes)
        assert sample().total_bytes > 1_000_000
        child.communicate(b"\n")
