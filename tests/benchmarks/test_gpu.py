"""Tests the GPU benchmark on CPU: its arithmetic, its report, and the whole command with a tiny model."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.engine import EngineWorkload
from benchmarks.gpu import app
from benchmarks.gpu_card import CardSpeed
from benchmarks.gpu_check import CheckResult
from benchmarks.gpu_engine import DecodeTime, EngineRun, EngineTimes, time_decode
from benchmarks.gpu_peer import decode_time
from benchmarks.gpu_report import GpuReport
from benchmarks.gpu_shapes import SHAPES, write_checkpoint
from engine.backends.fake import FakeEngine
from engine.config import EngineConfig
from engine.loop import EngineLoop
from fastserve.machine import this_machine
from fastserve.own_process import PartFailed, in_process

LLAMA = SHAPES["llama-3-8b"]
LOAD = EngineWorkload(num_prompt_tokens=10, num_output_tokens=12)


def make_report(**parts: object) -> GpuReport:
    card = CardSpeed("a card", copy_bytes_per_s=3e12, operations_per_s=6e14)
    fields = {"card": card, **parts}
    return GpuReport("2026-01-02", "c", "0", this_machine(), LLAMA, "bfloat16", 2, LOAD, 4096, **fields)  # type: ignore[arg-type]


def make_check(**overrides: float) -> CheckResult:
    numbers = {"worst_logprob_error": 0.01, "worst_gap": 0.0, "tolerance": 0.1, **overrides}
    return CheckResult("a model", num_tokens=9, num_same=9, num_graphs=4, **numbers)


def test_a_llama_of_8_billion_reads_15_gigabytes_of_weights_and_128_kibibytes_a_token() -> None:
    assert LLAMA.decode_bytes(0, element_bytes=2) == pytest.approx(15.0e9, rel=0.01)
    assert LLAMA.decode_bytes(1, 2) - LLAMA.decode_bytes(0, 2) == 128 << 10


def test_the_matrices_of_a_shape_are_all_weights_but_the_embedding_and_the_norms(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    shape = SHAPES["tiny"]
    write_checkpoint(shape, tmp_path, "float32", "cpu")
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    matrices = sum(each.numel() for each in model.parameters() if each.ndim == 2)
    assert shape.num_matrix_elements == matrices - shape.vocab_size * shape.hidden_size


def test_only_steps_in_which_all_decode_are_timed() -> None:
    config = EngineConfig("m", "fake", backend="fake", max_num_seqs=8, kv_cache_tokens=4096, fake_step_s=0.0)
    found = time_decode(EngineLoop(FakeEngine(config), config), LOAD, 8, vocab_size=100)
    assert (found.num_sequences, found.num_steps) == (8, 12 - 1 - 3)  # less the prefill's token and the warm-up
    assert 8 * (10 + 4) <= found.num_context_tokens <= 8 * (10 + 12)


def test_the_cache_of_a_run_holds_its_largest_batch_with_blocks_to_spare() -> None:
    run = EngineRun("f", LLAMA, "cuda", "bfloat16", "auto", (1, 256), EngineWorkload(512, 96), prefill_tokens=4096)
    config = run.config()
    assert (config.max_num_seqs, config.max_model_len, config.kv_cache_tokens) == (256, 4097, 256 * 4 * 256)


def test_a_peers_gap_is_that_of_steps_in_which_all_decode() -> None:
    early = [0.0, 1.0, 9.0, *[10.0 + step for step in range(10)]]
    late = [9.0, *[10.0 + step for step in range(12)]]
    found = decode_time([early, late], num_prompt_tokens=100)
    assert (found.num_sequences, found.step_s) == (2, 1.0)
    assert 200 < found.num_context_tokens < 230


def test_the_report_says_the_share_of_the_limit_and_what_was_not_run() -> None:
    decode = DecodeTime(num_sequences=1, step_s=0.010, num_steps=9, num_context_tokens=0)
    times = EngineTimes(num_graphs=4, load_s=1.0, decodes=[decode], prefill_s=0.5)
    report = make_report(engines={"graphs": times}, transformers=[decode], left_out={"eager": "not asked for"})
    text = report.to_markdown()
    assert "| 1 | graphs | 10.00 | 100 | 50.0% | 9 |" in text  # 15 GB at 3 TB/s are 5 ms
    assert "| 1 | transformers | 10.00 | 100 | 50.0% | 9 |" in text
    assert "- eager: not asked for" in text
    assert json.loads(report.to_json())["benchmark"] == "gpu"


def test_without_the_cards_speed_there_are_no_shares() -> None:
    times = EngineTimes(0, 1.0, [DecodeTime(1, 0.010, 9, 0)], prefill_s=0.5)
    assert "| 1 | eager | 10.00 | 100 | - | 9 |" in make_report(card=None, engines={"eager": times}).to_markdown()


def test_a_report_passes_when_every_check_holds_and_nothing_failed() -> None:
    assert make_report(checks=[make_check()]).passed
    assert not make_report(checks=[make_check(), make_check(worst_gap=0.2)]).passed
    assert not make_report(checks=[make_check(worst_logprob_error=0.2)]).passed
    assert not make_report(failed={"graphs": "RuntimeError"}).passed


def test_a_part_runs_in_a_process_of_its_own() -> None:
    assert in_process(divmod, 7, 2, timeout_s=60) == (3, 1)


@pytest.mark.parametrize(
    ("work", "argument", "timeout_s", "reason"),
    [
        (int, "seven", 60, "ValueError: invalid literal"),
        (time.sleep, 600, 0.1, "no result after 0.1 s"),
        (os._exit, 3, 60, "ended with exit code 3"),
    ],
)
def test_a_part_that_gives_nothing_says_why(work: object, argument: object, timeout_s: float, reason: str) -> None:
    with pytest.raises(PartFailed, match=reason):
        in_process(work, argument, timeout_s=timeout_s)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(torch.cuda.is_available(), reason="the command takes the GPU where there is one")
def test_the_whole_command_runs_on_cpu_with_a_tiny_model(tmp_path: Path) -> None:
    sizes = ["--batch", "1", "--batch", "3", "--prompt-tokens", "20", "--output-tokens", "16", "--prefill-tokens", "64"]
    done = CliRunner().invoke(app, ["--model", "tiny", "--dtype", "float32", *sizes, "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("*-gpu.json")
    found = json.loads(path.read_text())
    assert found["failed"] == {}
    assert found["left_out"] == {"graphs": "there is no GPU"}
    assert [check["num_same"] == check["num_tokens"] for check in found["checks"]] == [True, True]
    assert [decode["num_sequences"] for decode in found["engines"]["eager"]["decodes"]] == [1, 3]
    assert [decode["num_sequences"] for decode in found["transformers"]] == [1, 3]
