"""Owns the parent's end of a side: what it is asked, its turn, its end. Knows nothing of what it runs."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.guarded import Guarded
from fastserve.errors import ServerFailed

LOAD_WITHIN_S = 600.0
ANSWER_WITHIN_S = 600.0
_END_WITHIN_S = 20.0
_LOG_LINES = 20


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch gave."""

    token_ids: list[list[int]]
    took_s: float

    @property
    def tokens_per_s(self) -> float:
        return sum(map(len, self.token_ids)) / self.took_s


class Side:
    """One of the two that are compared. Between its turns its processes are stopped: waiting may cost cores."""

    def __init__(self, name: str, guarded: Guarded, log: Path) -> None:
        self.name = name
        self._guarded = guarded
        self._log = log
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.versions: dict[str, str] = self._answer(LOAD_WITHIN_S)["versions"]
        guarded.send_signal(signal.SIGSTOP)

    def generate(self, prompts: list[list[int]], num_tokens: int) -> Batch:
        """One batch, in this side's turn.

        Raises:
            ServerFailed: it ended, or took too long.
        """
        asked = self._guarded.process.stdin
        assert asked is not None
        self._guarded.send_signal(signal.SIGCONT)
        try:
            asked.write(json.dumps({"prompts": prompts, "num_tokens": num_tokens}) + "\n")
            asked.flush()
            answer = self._answer(ANSWER_WITHIN_S)
        finally:
            self._guarded.send_signal(signal.SIGSTOP)
        return Batch(answer["token_ids"], answer["took_s"])

    def _answer(self, within_s: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=within_s)
        except queue.Empty:
            raise ServerFailed(f"{self.name}: no answer within {within_s:g} s; {self._end_of_log()}") from None
        if not line:
            raise ServerFailed(f"{self.name} ended; {self._end_of_log()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self) -> None:
        answers = self._guarded.process.stdout
        assert answers is not None
        with answers:
            for line in answers:
                self._lines.put(line)
        self._lines.put("")

    def _end_of_log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


@contextlib.contextmanager
def running_side(name: str, command: Sequence[str], log: Path) -> Iterator[Side]:
    """The side that `command` runs, loaded and waiting for its turn; nothing of it outlives the block, or this process.

    Raises:
        ServerFailed: it ended while it loaded, or did not load in time.
    """
    with log.open("wb") as output:
        guarded = Guarded(command, stdout=subprocess.PIPE, stderr=output, grace_s=_END_WITHIN_S)
    try:
        yield Side(name, guarded, log)
    finally:
        guarded.end()
