"""How the launcher and the ingresses of its host agree on the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from deployments import ending
from deployments.api.gate import Gate
from deployments.ending import FOLDER_VARIABLE, EndingFolder, folder_of_launcher, follow

WITHIN_S = 5.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "LOOK_EVERY_S", 0.005)


class ToldGate(Gate):
    """Tells when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = asyncio.Event()

    def close(self) -> None:
        super().close()
        self.closing.set()


async def test_an_ingress_closes_its_gate_when_the_end_is_announced_and_leaves_when_all_is_answered(
    tmp_path: Path,
) -> None:
    folder, gate, answered = EndingFolder(tmp_path), ToldGate(), asyncio.Event()

    async def request() -> None:
        async with gate.passing():
            await answered.wait()

    asking, following = asyncio.create_task(request()), asyncio.create_task(follow(folder, gate))
    await asyncio.sleep(0)
    assert (folder.at_work(), gate.is_closed) == ([os.getpid()], False)
    folder.announce()
    async with asyncio.timeout(WITHIN_S):
        await gate.closing.wait()
        assert folder.at_work() == [os.getpid()]
        answered.set()
        await asyncio.gather(asking, following)
    assert folder.at_work() == []


def test_a_process_that_has_died_is_not_waited_for(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / str(dead.pid)).touch()
    assert EndingFolder(tmp_path).at_work() == []


def test_without_a_launcher_there_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert folder_of_launcher() is None
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "gone"))
    assert folder_of_launcher() is None
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert folder_of_launcher() == EndingFolder(tmp_path)
