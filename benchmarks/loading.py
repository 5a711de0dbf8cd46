"""`python -m benchmarks.loading`: how long a rank takes to load, beside reading its file once, and the most memory
that it takes meanwhile, beside what it keeps.

Every load has a process of its own, as every rank has; its imports are done before the clock starts.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks.engine_report import public_command
from benchmarks.report import RESULTS, write_report
from engine.checkpoint import resolve, weight_files
from fastserve.machine import Machine, commit, provenance, this_machine
from fastserve.own_process import in_process

_LOAD_WITHIN_S = 600.0
#: What a rank imports while it loads, whatever the model.
_IMPORTED_ANYWAY = ("deepspeed", "transformers.models.auto.modeling_auto")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Load:
    """One load. peak_bytes: the most memory that the process had, pages of the mapped file among it, beyond what it had
    before. kept_bytes: of the rank's parameters. first_read_s, again_s: to read the files into fresh memory, and into
    memory that is there already; both from the system's cache."""

    load_s: float
    first_read_s: float
    again_s: float
    peak_bytes: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class LoadingReport:
    """Medians over all loads."""

    date: str
    command: str
    commit: str
    machine: Machine
    source: str
    loads: list[Load]

    def to_json(self) -> str:
        return json.dumps({"benchmark": "loading", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        def median(name: str) -> float:
            return float(statistics.median(getattr(load, name) for load in self.loads))

        fresh = statistics.median(load.load_s / load.first_read_s for load in self.loads)
        again = statistics.median(load.load_s / load.again_s for load in self.loads)
        peak = statistics.median(load.peak_bytes / load.kept_bytes for load in self.loads)
        lines = [
            f"# Loading benchmark, {self.date}",
            "",
            f"{self.source} in bf16 on one rank, its file in the system's cache; medians of {len(self.loads)} loads.",
            "",
            "| measure | value |",
            "| --- | ---: |",
            f"| from the folder to the first step's readiness | {median('load_s'):.2f} s |",
            f"| reading the files into fresh memory | {median('first_read_s'):.3f} s; loading {fresh:.1f} times |",
            f"| reading them into memory that is there | {median('again_s'):.3f} s; loading {again:.1f} times |",
            f"| most memory while loading | {median('peak_bytes') / 2**20:.0f} MiB, {peak:.2f} times the parameters |",
            "",
            *provenance(self.command, self.commit, self.machine),
        ]
        return "\n".join(lines) + "\n"


@app.command()
def main(
    source: Annotated[str, typer.Option(help="A folder, a hub id or an embedded model.")] = (
        "embedded:SmolLM2-135M-Instruct"
    ),
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 5,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Measure loading, a process a round; the first round is not counted."""
    shown = track(range(rounds + 1), description="loads", console=Console(stderr=True), transient=True)
    loads = [in_process(load_once, source, timeout_s=_LOAD_WITHIN_S) for _ in shown][1:]
    report = LoadingReport(
        date=datetime.now(UTC).date().isoformat(),
        command=public_command("benchmarks.loading"),
        commit=commit(),
        machine=this_machine(),
        source=source,
        loads=loads,
    )
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    write_report(report, results, "loading")


def load_once(source: str) -> Load:
    """Reads and loads in this process, which should do nothing else."""
    from engine.backends.deepspeed import load_rank
    from engine.config import EngineConfig
    from fastserve.ports import LOOPBACK, free_port

    for name in _IMPORTED_ANYWAY:
        import_module(name)
    config = EngineConfig("bench", source, kv_cache_tokens=16_384, preemption="off")
    before, started_s = _peak_bytes(), time.perf_counter()
    loaded = load_rank(config, 0, LOOPBACK, free_port())
    load_s, peak = time.perf_counter() - started_s, _peak_bytes() - before
    first_read_s, again_s = read_twice(weight_files(resolve(source)))
    return Load(load_s, first_read_s, again_s, peak, loaded.capacity.model_bytes[0])


def read_twice(files: list[Path]) -> tuple[float, float]:
    """Seconds to read all files into memory that no page has been touched of, and into the same memory again."""
    started_s = time.perf_counter()
    contents = [path.read_bytes() for path in files]
    first_s = time.perf_counter() - started_s
    buffers = [bytearray(content) for content in contents]
    started_s = time.perf_counter()
    for buffer, path in zip(buffers, files, strict=True):
        with path.open("rb", buffering=0) as file:
            file.readinto(buffer)
    return first_s, time.perf_counter() - started_s


def _peak_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    app()
