"""Owns what a results file says, as JSON and as Markdown. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.load import Workload
from benchmarks.summary import LevelSummary
from fastserve.machine import Machine

RESULTS = Path(__file__).parent / "results"
_COLUMNS = ("clients", "output tokens/s", "TTFT p50", "TTFT p95", "ITL p50", "ITL p99", "answers", "failed")
_MAX_FAILURES = 10


@dataclass(frozen=True, slots=True)
class HttpReport:
    """One run of the HTTP benchmark.

    startup_s: from the command to the first answer; None where the service ran already. settings: of the model, where
    this run started it. failures: why requests failed, each reason once.
    """

    date: str
    command: str
    commit: str
    machine: Machine
    workload: Workload
    num_rounds: int
    settings: dict[str, object] | None
    startup_s: float | None
    levels: list[LevelSummary]
    failures: list[str]

    def to_json(self) -> str:
        return json.dumps({"benchmark": "http", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        sections = [f"# HTTP benchmark, {self.date}", self._what(), _table(self.levels), self._how_to_read()]
        sections.append("\n".join(f"- {name}: {value}" for name, value in self._facts()))
        if self.failures:
            sections.append("\n".join(["Failed requests:", "", *(f"- {reason}" for reason in self.failures)]))
        return "\n\n".join(sections) + "\n"

    def _what(self) -> str:
        load = self.workload
        return (
            f"{load.model}, streaming completions: {load.num_output_tokens} output tokens each, greedy, `ignore_eos`; "
            f"prompts of {load.num_prompt_words} words, all different. Each client asks {load.requests_per_client} "
            f"times a round, one request after another; {self.num_rounds} rounds, every other one backwards."
        )

    def _how_to_read(self) -> str:
        per_event = ", ".join(_number(level.tokens_per_event, 2) for level in self.levels)
        return (
            "Times in milliseconds. Output tokens/s: the median round, with the lowest and the highest. "
            f"ITL: the gap between events with text; tokens in one event, by row: {per_event}."
        )

    def _facts(self) -> list[tuple[str, str]]:
        startup = "not measured: the service ran already" if self.startup_s is None else f"{self.startup_s:.1f} s"
        facts = [
            ("from command to first answer", startup),
            ("command", f"`{self.command}`"),
            ("commit", f"`{self.commit}`"),
            ("hardware", self.machine.hardware()),
            ("software", self.machine.software()),
        ]
        return facts if self.settings is None else [*facts, ("model settings", f"`{json.dumps(self.settings)}`")]


class Report(Protocol):
    """One run of a benchmark, in both forms."""

    @property
    def date(self) -> str: ...
    def to_json(self) -> str: ...
    def to_markdown(self) -> str: ...


def write_report(report: Report, folder: Path, benchmark: str) -> Path:
    """Writes both forms beside each other, under a name that is not taken; returns the path of the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = free_stem(folder, f"{report.date}-{benchmark}")
    (folder / f"{stem}.json").write_text(report.to_json())
    markdown = folder / f"{stem}.md"
    markdown.write_text(report.to_markdown())
    return markdown


def free_stem(folder: Path, stem: str) -> str:
    """`stem`, or the first of `stem-2`, `stem-3`, ... that no file of the folder has."""
    taken = {path.stem for path in folder.iterdir()}
    number, candidate = 1, stem
    while candidate in taken:
        number += 1
        candidate = f"{stem}-{number}"
    return candidate


def distinct_reasons(reasons: Sequence[str]) -> list[str]:
    """Each once, in order, and not many."""
    return list(dict.fromkeys(reasons))[:_MAX_FAILURES]


def _table(levels: Sequence[LevelSummary]) -> str:
    rows = [_COLUMNS, ("---:",) * len(_COLUMNS), *(_row(level) for level in levels)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(level: LevelSummary) -> tuple[str, ...]:
    rates = level.output_tokens_per_s_by_round
    times = (level.ttft_p50_ms, level.ttft_p95_ms, level.itl_p50_ms, level.itl_p99_ms)
    return (
        str(level.num_clients),
        f"{level.output_tokens_per_s:.1f} ({min(rates):.1f} to {max(rates):.1f})",
        *(_number(time_ms, 1) for time_ms in times),
        str(level.num_answers),
        str(level.num_failed),
    )


def _number(value: float | None, num_decimals: int) -> str:
    return "-" if value is None else f"{value:.{num_decimals}f}"
