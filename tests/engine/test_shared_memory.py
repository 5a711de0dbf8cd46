"""Tests when the shared-memory all-reduce is used, and that its segments are found by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from engine import shared_memory


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_memory, "SEGMENT_FOLDER", tmp_path)
    return tmp_path


def test_unlinking_takes_the_segment_of_that_rank_and_port_alone(folder: Path) -> None:
    for port, rank in ((4000, 0), (4000, 1), (4001, 0)):
        shared_memory.segment("127.0.0.1", port, rank).touch()
    shared_memory.unlink_segment("127.0.0.1", 4000, 0)
    assert len(list(folder.iterdir())) == 2
    assert not shared_memory.segment("127.0.0.1", 4000, 0).exists()


def test_unlinking_what_is_not_there_is_no_error(folder: Path) -> None:
    shared_memory.unlink_segment("127.0.0.1", 4000, 0)


def test_too_small_a_shared_memory_falls_back_to_gloo_with_the_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = 2 * shared_memory.SEGMENT_BYTES - 1
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert not shared_memory.can_use_shared_memory(2)
    assert f"{free:,} bytes free, {2 * shared_memory.SEGMENT_BYTES:,} needed" in caplog.text


def test_an_operation_that_cannot_be_built_falls_back_to_gloo_with_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("no g++")

    monkeypatch.setattr(shared_memory, "load_operation", fail)
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 40))
    assert not shared_memory.can_use_shared_memory(2)
    assert "no g++" in caplog.text


def test_two_ranks_of_one_machine_see_the_same_memory() -> None:
    assert shared_memory.memory_identity() == shared_memory.memory_identity()
