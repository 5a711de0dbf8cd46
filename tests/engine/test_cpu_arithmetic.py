"""In which type a model computes where the processor multiplies the configured one by emulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from engine import cpu_arithmetic
from engine.config import EngineConfig
from engine.cpu_arithmetic import as_computed
from engine.process_group import World
from tests.engine.playing import ALONE, CPU

CONFIG = EngineConfig("m", "")
OLD, NEW = frozenset({"avx2"}), frozenset({"avx2", "avx512f", "avx512_bf16"})


@dataclass(frozen=True, slots=True)
class BesideAnother:
    """A world of two ranks. others: what the other one says, question by question."""

    others: list[int]
    rank: int = 0
    size: int = 2
    device: torch.device = CPU

    def gathered(self, value: int) -> list[int]:
        return [value, self.others.pop(0)]


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cpu_arithmetic.platform, "machine", lambda: "x86_64")
    return tiny_model("llama")


def on(flags: frozenset[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_arithmetic, "cpu_flags", lambda: flags)


@pytest.mark.parametrize(
    ("dtype", "flags", "computed"),
    [
        ("bfloat16", OLD, "float32"),
        ("float16", NEW, "float32"),
        ("bfloat16", NEW, "bfloat16"),
        ("float32", OLD, "float32"),
        ("bfloat16", frozenset(), "bfloat16"),
    ],
    ids=["old", "no float16", "new", "already", "nothing known"],
)
def test_what_the_processor_only_emulates_is_computed_in_float32(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, flags: frozenset[str], computed: str
) -> None:
    on(flags, monkeypatch)
    config = replace(CONFIG, dtype=dtype)  # type: ignore[arg-type]
    assert as_computed(config, folder, ALONE) == replace(config, dtype=computed)  # type: ignore[arg-type]


def test_on_a_gpu_the_processor_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(OLD, monkeypatch)
    assert as_computed(CONFIG, folder, replace(ALONE, device=torch.device("cuda"))) == CONFIG


def test_where_another_rank_has_an_older_processor_all_compute_alike(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(NEW, monkeypatch)
    older: World = BesideAnother([0, 1])  # type: ignore[assignment]
    assert as_computed(CONFIG, folder, older) == replace(CONFIG, dtype="float32")
    without_room: World = BesideAnother([0, 0])  # type: ignore[assignment]
    assert as_computed(CONFIG, folder, without_room) == CONFIG


def test_where_float32_does_not_fit_the_type_stays_and_the_log_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    on(OLD, monkeypatch)
    monkeypatch.setattr(cpu_arithmetic, "host_free_bytes", lambda: 0)
    assert as_computed(CONFIG, folder, ALONE) == CONFIG
    assert "this processor has no avx512_bf16" in caplog.text
