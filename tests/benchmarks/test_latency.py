"""The latency benchmark's figures, from an engine without a model."""

from __future__ import annotations

import json

from benchmarks.latency import Player, measure
from engine.backends.fake import FakeEngine
from engine.config import EngineConfig
from engine.loop import EngineLoop


def test_every_figure_is_measured_and_the_second_turn_computes_its_new_tokens_up_to_a_block() -> None:
    config = EngineConfig(
        "fake", "", backend="fake", fake_step_s=0.0, max_num_seqs=32, kv_cache_tokens=80_000, max_model_len=8192
    )
    loop = EngineLoop(FakeEngine(config), config)

    report = measure(Player(loop), num_streams=2, long_prompt=600, num_samples=2)

    assert (report.second_turn_prompt_tokens, report.second_turn_new_tokens) == (340, 40)
    assert report.second_turn_computed_tokens == 340 - 300 // 16 * 16
    figures = json.loads(report.to_json())
    assert all(value > 0 for name, value in figures.items() if name.endswith("_ms"))
    assert "| second turn of a chat: of 340 prompt tokens, 40 new | 52 computed |" in report.to_markdown()
    assert loop.stats.num_preemptions >= 2
    assert not loop.stats.num_running
