"""Which peers there are, and what runs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from benchmarks.peers import environment
from benchmarks.peers.__main__ import OfflinePeer
from benchmarks.peers.environment import PEERS, TRANSFORMERS, VLLM, peer_python


def test_every_peer_can_be_asked_for_and_has_a_side() -> None:
    named, *_ = get_args(OfflinePeer)

    assert list(get_args(named)) == list(PEERS)
    assert all(Path(environment.__file__).with_name(peer.script).is_file() for peer in PEERS.values())


def test_a_peer_that_needs_nothing_runs_in_our_environment() -> None:
    assert peer_python(TRANSFORMERS, Console()) == Path(sys.executable)


def test_an_environment_that_is_whole_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "fastserve" / "peers" / VLLM.name
    folder.mkdir(parents=True)
    (folder / ".complete").write_text("\n".join([*VLLM.requirements, *(f"-{name}" for name in VLLM.unwanted)]))

    assert peer_python(VLLM, Console()) == folder / "bin" / "python"
    assert not (folder / "bin").exists()
