"""Tests what the native program refuses, and that the plain modules then run on every rank."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.attention import ATTENTION_NAME, register_paged_attention
from engine.checkpoint import load_model
from engine.config import EngineConfig
from engine.fused import build, compiled
from engine.fused.build import fusable_shard
from engine.fused.compiled import NoNativeLibrary, check_processor
from engine.fused.families import NotFusable, read_decoder
from engine.process_group import World
from engine.runner import ModelRunner, build_runner
from tests.engine.native import needs_native
from tests.engine.playing import ALONE, CPU
from tests.engine.tiny_models import make_tiny_model

TinyModel = Callable[[str], Path]
CONFIG = EngineConfig("m", "", dtype="float32", kv_cache_tokens=64, num_threads=1)


def load(folder: Path) -> Any:
    register_paged_attention()
    return load_model(folder, torch.float32, ATTENTION_NAME)


def fuse(model: Any, config: EngineConfig = CONFIG, world: World = ALONE) -> object:
    return fusable_shard(model, config, 64, world)


@needs_native
def test_a_known_family_is_fused_unless_the_plain_modules_are_asked_for(tiny_model: TinyModel) -> None:
    model = load(tiny_model("llama"))
    assert fuse(model) is not None
    assert fuse(model, replace(CONFIG, cpu_kernels="torch")) is None


@needs_native
@pytest.mark.parametrize(
    ("family", "overrides", "config", "reason"),
    [
        ("granite", {}, CONFIG, "granite: no blueprint"),
        ("llama", {}, replace(CONFIG, block_size=24), "block_size 24; expected a multiple of 16"),
        ("llama", {"head_dim": 8}, CONFIG, "heads of 8; expected a multiple of 16"),
        ("llama", {"hidden_act": "tanh"}, CONFIG, "activation 'tanh'"),
    ],
)
def test_what_it_cannot_compute_runs_through_the_plain_modules_and_the_log_says_why(
    family: str,
    overrides: dict[str, Any],
    config: EngineConfig,
    reason: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = load(make_tiny_model(tmp_path, family, **overrides))
    with caplog.at_level(logging.WARNING):
        runner = build_runner(model, config, ALONE)
    assert isinstance(runner, ModelRunner)
    assert reason in caplog.text


def test_phi_with_norms_of_its_heads_is_refused(tiny_model: TinyModel) -> None:
    model = load(tiny_model("phi"))
    model.config.qk_layernorm = True
    with pytest.raises(NotFusable, match="qk_layernorm"):
        read_decoder(model, 0, 64)


@needs_native
def test_where_another_rank_cannot_no_rank_does(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    class WithOneThatCannot(World):
        def gathered(self, value: int) -> list[int]:
            return [value, 0]

    with caplog.at_level(logging.WARNING):
        assert fuse(load(tiny_model("llama")), world=WithOneThatCannot(0, 2, CPU, None)) is None  # type: ignore[arg-type]
    assert "another rank cannot" in caplog.text


@pytest.mark.parametrize(("dtype", "flag"), [("bfloat16", "avx512_bf16"), ("float32", "avx512f")])
def test_a_processor_without_the_instructions_is_named(dtype: str, flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cpu_flags", frozenset)
    with pytest.raises(NoNativeLibrary, match=f"no {flag}"):
        check_processor(dtype)


def test_a_type_without_native_arithmetic_is_named() -> None:
    with pytest.raises(NoNativeLibrary, match="no native arithmetic for float16; there is for bfloat16, float32"):
        check_processor("float16")


def test_a_machine_without_a_compiler_runs_the_plain_modules(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "check_processor", lambda dtype: None)
    monkeypatch.setattr(compiled, "_folder", lambda: tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoNativeLibrary, match="no-such-compiler"):
        compiled.compiled_library()

    def none(dtype: torch.dtype, num_threads: int) -> None:
        raise NoNativeLibrary("no compiler")

    monkeypatch.setattr(build, "load_library", none)
    with caplog.at_level(logging.WARNING):
        assert fuse(load(tiny_model("llama"))) is None
    assert "no compiler" in caplog.text
