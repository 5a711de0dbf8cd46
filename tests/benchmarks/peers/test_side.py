"""A side answers in its turn, stands still otherwise, and ends with its block."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.peers.offline import OfflineWork, check_sides, compare, distinct_prompts
from benchmarks.peers.reference import Choice
from benchmarks.peers.side import running_side
from fastserve.errors import ServerFailed

ECHO = [sys.executable, "-m", "tests.benchmarks.peers.echo_side"]
WORK = OfflineWork([1, 3], num_prompt_tokens=4, num_output_tokens=2, prefill_tokens=8)


def await_stop(process: psutil.Process) -> None:
    deadline_s = time.monotonic() + 30.0
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline_s, process.status()


def test_a_side_answers_in_its_turn_and_is_stopped_between_turns(tmp_path: Path) -> None:
    with running_side("echo", ECHO, tmp_path / "log") as side:
        [process] = psutil.Process(side._guarded.process.pid).children()
        assert side.versions == {"echo": "1"}
        await_stop(process)

        batch = side.generate([[1, 2], [3]], 2)

        assert batch.token_ids == [[2, 2], [3, 3]]
        assert batch.tokens_per_s == pytest.approx(4 / batch.took_s)
        await_stop(process)
    assert not process.is_running()
    assert "what libraries print" in (tmp_path / "log").read_text()


def test_a_side_that_ends_by_itself_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed, match="no weights in the cupboard"),
        running_side("echo", [*ECHO, "fail"], tmp_path / "log"),
    ):
        pass


def test_two_sides_are_compared_on_every_measure_in_every_pair(tmp_path: Path) -> None:
    with running_side("a", ECHO, tmp_path / "a") as ours, running_side("b", ECHO, tmp_path / "b") as peer:
        agreements = check_sides([ours, peer], lambda token_ids: [Choice(0.0, 0.0, 0.0)] * (len(token_ids) - 1))
        found = compare(ours, peer, WORK, num_pairs=2)

    assert list(agreements) == ["a", "b"]
    assert [each.measure for each in found] == ["output, 1 at a time", "output, 3 at a time", "prompt, 8 at a time"]
    assert all(len(each.ours) == len(each.peers) == 2 and min(each.ours + each.peers) > 0 for each in found)


def test_prompts_differ_within_a_batch_and_are_the_same_for_the_same_seed() -> None:
    prompts = distinct_prompts(8, 16, seed=3)

    assert len({tuple(prompt) for prompt in prompts}) == 8
    assert prompts == distinct_prompts(8, 16, seed=3)
    assert prompts != distinct_prompts(8, 16, seed=4)
