"""Owns what the processes below this one hold in memory while something is measured. Knows nothing of what that is."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

SAMPLE_EVERY_S = 5.0
SETTLING_S = 60.0  # of a load: caches fill, buffers grow to their size
_WINDOW_S = 30.0  # what is compared is the median of so many seconds: a process may be about to collect its garbage


@dataclass(frozen=True, slots=True)
class MemorySample:
    """at_s: monotonic. resident_bytes: by the title of the process, of all that have it together."""

    at_s: float
    resident_bytes: dict[str, int]

    @property
    def total_bytes(self) -> int:
        return sum(self.resident_bytes.values())


@dataclass(frozen=True, slots=True)
class MemoryGrowth:
    """From the end of a load's first minute to its end. by_process: bytes that each kind of process has gained."""

    first_bytes: float
    last_bytes: float
    by_process: dict[str, float]

    @property
    def share(self) -> float:
        return self.last_bytes / self.first_bytes - 1


@dataclass(slots=True)
class MemoryWatch:
    """The samples so far."""

    samples: list[MemorySample] = field(default_factory=list)

    def growth(self, duration_s: float) -> MemoryGrowth | None:
        """Of a load that took so long and has just ended; None where that was too short to tell."""
        if duration_s < SETTLING_S + 2 * _WINDOW_S or not self.samples:
            return None
        end_s = self.samples[-1].at_s
        first = self._between(end_s - duration_s + SETTLING_S, end_s - duration_s + SETTLING_S + _WINDOW_S)
        last = self._between(end_s - _WINDOW_S, end_s)
        return growth_between(first, last) if first and last else None

    def _between(self, begin_s: float, end_s: float) -> list[MemorySample]:
        return [sample for sample in self.samples if begin_s <= sample.at_s <= end_s]


def growth_between(first: Sequence[MemorySample], last: Sequence[MemorySample]) -> MemoryGrowth:
    """Medians, process by process."""
    titles = sorted({title for sample in (*first, *last) for title in sample.resident_bytes})
    before = {title: median(sample.resident_bytes.get(title, 0) for sample in first) for title in titles}
    after = {title: median(sample.resident_bytes.get(title, 0) for sample in last) for title in titles}
    gained = {title: after[title] - before[title] for title in titles}
    return MemoryGrowth(
        median(sample.total_bytes for sample in first), median(sample.total_bytes for sample in last), gained
    )


@contextlib.contextmanager
def watched_memory(every_s: float = SAMPLE_EVERY_S) -> Iterator[MemoryWatch]:
    """Looks at all processes below this one meanwhile, from a thread."""
    watch, stop = MemoryWatch(), threading.Event()

    def look() -> None:
        while not stop.wait(every_s):
            watch.samples.append(sample())

    thread = threading.Thread(target=look, name="memory-watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()


def sample() -> MemorySample:
    """What the processes below this one hold now. Pages that several share count for each of them."""
    held: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            held[_title(command[0] if command else process.name())] += process.memory_info().rss
    return MemorySample(time.monotonic(), dict(held))


def _title(command: str) -> str:
    """Without the method that a Ray actor runs, or the folder of a program."""
    return command.split(".", 1)[0].strip() if command.startswith("ray::") else command.rpartition("/")[2]
