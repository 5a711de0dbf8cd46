"""Plays configurations on one load and writes what came of it: a page, and the figures as JSON beside it."""

from __future__ import annotations

import gc
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fastserve.twin_load import TwinLoad
from simulation.likeness import MeasuredRun, likenesses
from simulation.page import PageFacts, render
from simulation.play import play
from simulation.results import Figures
from simulation.scenario import Scenario

_TOLD_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Report:
    """Where the runs' figures are written. provenance: what made them, a line each. measured: see `PageFacts`."""

    page: Path
    provenance: Sequence[str]
    measured: MeasuredRun | None = None

    @property
    def figures(self) -> Path:
        return self.page.with_suffix(".json")


def simulate(scenarios: Sequence[Scenario], load: TwinLoad, report: Report, console: Console) -> list[Figures]:
    """Every scenario is asked the same.

    Raises:
        TraceTooShort: the load's trace has too few requests.
        ValueError: nobody asks for anything.
    """
    runs, speeds = [], []
    with _progress(console) as progress, _no_cycles_sought():
        for scenario in scenarios:
            task = progress.add_task(scenario.name, total=load.expected_requests())
            began_s = time.process_time()
            with _counted(progress, task) as count:
                runs.append(play(scenario, load.rounds(), count))
            progress.update(task, total=runs[-1].total.num_requests)
            speeds.append(_speed(runs[-1], time.process_time() - began_s))
    write(runs, load, replace(report, provenance=[*report.provenance, *speeds]))
    return runs


def write(runs: Sequence[Figures], load: TwinLoad, report: Report) -> None:
    title = " and ".join(run.name for run in runs) if len(runs) < 3 else f"{len(runs)} configurations"
    facts = PageFacts(f"Digital twin: {title}", load.in_words(), report.provenance, report.measured)
    report.page.write_text(render(runs, facts))
    document = {
        "load": load.in_words(),
        "provenance": list(report.provenance),
        "runs": [asdict(run) for run in runs],
        "likeness": [] if report.measured is None else [asdict(each) for each in likenesses(runs[0], report.measured)],
    }
    report.figures.write_text(json.dumps(document, indent=2) + "\n")


def shown(runs: Sequence[Figures]) -> Table:
    """The figures that one looks at first. Times in seconds."""
    table = Table("run", "class", "asked", "answered", "TTFT p50", "p99", "TPOT p50", "good/s", "tokens/s")
    for run in runs:
        for group in [*run.classes, run.total]:
            times_s = (group.ttft.p50_s, group.ttft.p99_s, group.tpot.p50_s)
            rates = (f"{group.goodput_per_s:.3g}", f"{group.output_tokens_per_s:.1f}")
            answered = str(group.outcomes.get("answered", 0))
            table.add_row(run.name, group.name, str(group.num_requests), answered, *map(_seconds, times_s), *rates)
    return table


def shown_beside(run: Figures, measured: MeasuredRun) -> Table:
    """A run beside what was measured."""
    table = Table("", "measured", "played", "played over measured", title=f"{run.name} beside {measured.name}")
    for each in likenesses(run, measured):
        table.add_row(
            each.what, f"{each.measured:.4g} {each.unit}", f"{each.played:.4g} {each.unit}", f"{each.ratio:.2f}"
        )
    return table


def _speed(run: Figures, took_s: float) -> str:
    steps = f"{run.fleet.num_steps:,} steps of at most {run.fleet.most_replicas:,} replicas"
    return (
        f"{run.name}: {run.total.num_requests:,} requests and {steps} played in {took_s:.1f} s of one core,"
        f" Python {platform.python_version()}"
    )


def _seconds(time_s: float | None) -> str:
    return "-" if time_s is None else f"{time_s:.3g}"


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)


@contextmanager
def _counted(progress: Progress, task: object) -> Iterator[Callable[[], None]]:
    """What is to be called for each request that ends. The display is told of many at a time."""
    num_ended = 0

    def count() -> None:
        nonlocal num_ended
        num_ended += 1
        if num_ended % _TOLD_AT_ONCE == 0:
            progress.update(task, completed=num_ended)  # type: ignore[arg-type]

    yield count


@contextmanager
def _no_cycles_sought() -> Iterator[None]:
    """A run makes hardly any reference cycles, and looking for them among millions of objects takes a third of it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
