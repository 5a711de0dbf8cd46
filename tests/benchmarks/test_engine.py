from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.engine import EngineWorkload, run_batch, run_prefill
from benchmarks.engine_report import EngineReport, LevelRate
from benchmarks.report import write_report
from engine.backends.fake import FakeEngine
from engine.config import EngineConfig
from engine.loop import EngineLoop
from fastserve.machine import this_machine


@pytest.fixture
def loop() -> EngineLoop:
    config = EngineConfig("m", "fake", backend="fake", max_num_seqs=8, kv_cache_tokens=4096, fake_step_s=0.0)
    return EngineLoop(FakeEngine(config), config)


def test_every_sequence_of_a_round_gives_all_its_tokens(loop: EngineLoop) -> None:
    batch = run_batch(loop, EngineWorkload(num_prompt_tokens=10, num_output_tokens=5), 8, seed=1)
    assert (batch.num_sequences, batch.num_tokens) == (8, 40)
    assert batch.tokens_per_s == pytest.approx(40 / batch.took_s)


def test_a_sequence_that_fails_ends_the_measurement(loop: EngineLoop) -> None:
    with pytest.raises(RuntimeError, match="4097"):
        run_batch(loop, EngineWorkload(num_prompt_tokens=4097, num_output_tokens=5), 1, seed=1)


def test_prefill_is_counted_in_prompt_tokens(loop: EngineLoop) -> None:
    assert run_prefill(loop, 100, seed=1) > 0


def test_the_report_names_the_median_and_the_spread_of_each_level(tmp_path: Path) -> None:
    report = EngineReport(
        date="2026-01-02",
        command="python -m benchmarks.engine",
        commit="abc",
        machine=this_machine(),
        num_prompt_tokens=64,
        num_output_tokens=128,
        num_rounds=3,
        levels=[LevelRate(8, 500.0, [490.0, 500.0, 510.0])],
        prefill_tokens=512,
        prefill_tokens_per_s=1500.0,
    )
    path = write_report(report, tmp_path, "engine")
    assert "| 8 | 500.0 (490.0 to 510.0) |" in path.read_text()
    assert json.loads(path.with_suffix(".json").read_text())["levels"][0]["num_sequences"] == 8
