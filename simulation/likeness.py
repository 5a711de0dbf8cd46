"""Owns how near a run came to what a real service was measured to do. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from simulation.results import Figures


@dataclass(frozen=True, slots=True)
class MeasuredGroup:
    """A class of a real service under the same load. None where nothing was answered."""

    ttft_p50_s: float | None
    ttft_p99_s: float | None


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What a real service did, by class. name: of the results."""

    name: str
    classes: Mapping[str, MeasuredGroup]
    output_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """One figure beside what was measured. what: in words."""

    what: str
    unit: str
    measured: float
    played: float

    @property
    def ratio(self) -> float:
        """Played over measured."""
        return self.played / self.measured


def likenesses(run: Figures, measured: MeasuredRun) -> list[Likeness]:
    """Of each class that both have, and of the whole; nothing of what one of them has no figure for."""
    groups = {group.name: group.ttft for group in run.classes}
    found = [
        Likeness(f"{name}, TTFT {which}", "s", was, played)
        for name, group in measured.classes.items()
        if name in groups
        for which, was, played in _times(group, groups[name].p50_s, groups[name].p99_s)
    ]
    return [*found, Likeness("output tokens/s", "/s", measured.output_tokens_per_s, run.total.output_tokens_per_s)]


def _times(group: MeasuredGroup, p50_s: float | None, p99_s: float | None) -> Iterator[tuple[str, float, float]]:
    for which, was, played in (("p50", group.ttft_p50_s, p50_s), ("p99", group.ttft_p99_s, p99_s)):
        if was and played is not None:
            yield which, was, played
