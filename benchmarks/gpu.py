"""`python -m benchmarks.gpu`: how near the engine comes to what a GPU can do, by itself, without Ray or HTTP.

Checks the engine's answers first. Each part runs in a process of its own, so that none finds memory of another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer
from rich.console import Console

from benchmarks.engine import EngineWorkload
from benchmarks.engine_report import public_command
from benchmarks.gpu_card import measure_card
from benchmarks.gpu_check import CheckResult, check_engine
from benchmarks.gpu_engine import EngineRun, time_engine
from benchmarks.gpu_peer import time_transformers
from benchmarks.gpu_report import GpuReport
from benchmarks.gpu_shapes import SHAPES, SMALL, ModelShape, write_checkpoint
from benchmarks.report import RESULTS, write_report
from engine.config import CudaGraphs, Device
from fastserve.machine import commit, this_machine
from fastserve.own_process import PartFailed, in_process

Result = TypeVar("Result")
_CHECKED_LAYERS = 2
_NO_GPU = "there is no GPU"


class Part(StrEnum):
    CHECK = "check"
    CARD = "card"
    GRAPHS = "graphs"
    EAGER = "eager"
    TRANSFORMERS = "transformers"


class DtypeName(StrEnum):
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class ModelName(StrEnum):
    LLAMA = "llama-3-8b"
    TINY = "tiny"


ALL_PARTS = list(Part)
BATCHES = [1, 16, 64, 256]
_SETTINGS: dict[Part, CudaGraphs] = {Part.GRAPHS: "auto", Part.EAGER: "off"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_progress = Console(stderr=True)


@app.command()
def main(
    part: Annotated[list[Part], typer.Option(help="What to run; repeat it.")] = ALL_PARTS,
    model: Annotated[ModelName, typer.Option(help="The shape; its weights are random.")] = ModelName.LLAMA,
    dtype: DtypeName = DtypeName.BFLOAT16,
    batch: Annotated[list[int], typer.Option(min=1, max=4096, help="Sequences at a time; repeat it.")] = BATCHES,
    prompt_tokens: Annotated[int, typer.Option(min=1)] = 512,
    output_tokens: Annotated[int, typer.Option(min=8)] = 96,
    prefill_tokens: Annotated[int, typer.Option(min=1, help="Of the prompt whose prefill is timed.")] = 4096,
    part_timeout_s: Annotated[float, typer.Option(min=1, help="A part that takes longer has failed.")] = 180,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Check and measure the engine on one device: a GPU where there is one, else the CPU, without graphs."""
    shape = SHAPES[model]
    load = EngineWorkload(prompt_tokens, output_tokens)
    report = GpuReport(
        date=datetime.now(UTC).date().isoformat(),
        command=public_command("benchmarks.gpu"),
        commit=commit(),
        machine=this_machine(),
        shape=shape,
        dtype=dtype,
        element_bytes=getattr(torch, dtype).itemsize,
        load=load,
        prefill_tokens=prefill_tokens,
    )
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        run = EngineRun(folder, shape, device, dtype.value, "auto", tuple(batch), load, prefill_tokens)
        report = measure(report, run, set(part), part_timeout_s)
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    write_report(report, results, "gpu")
    if not report.passed:
        raise typer.Exit(1)


def measure(report: GpuReport, run: EngineRun, parts: set[Part], part_timeout_s: float) -> GpuReport:
    """Runs the parts in order; one that fails is noted with its reason, and the others run all the same."""
    left_out = {part.value: "not asked for" for part in Part if part not in parts}
    if run.device == "cpu" and Part.GRAPHS in parts:
        left_out[Part.GRAPHS.value] = _NO_GPU
        parts = parts - {Part.GRAPHS}
    noted = _Notes(part_timeout_s)
    if Part.CHECK in parts:
        report = replace(report, checks=_checks(run, noted))
    if Part.CARD in parts:
        report = replace(report, card=noted.attempt(Part.CARD, measure_card, run.device, run.dtype))
    if parts & {*_SETTINGS, Part.TRANSFORMERS}:
        noted.attempt("weights", write_checkpoint, run.shape, Path(run.folder), run.dtype, run.device)
    for part, setting in _SETTINGS.items():
        if part in parts and (times := noted.attempt(part, time_engine, replace(run, cuda_graphs=setting))):
            report = replace(report, engines=report.engines | {part.value: times})
    if Part.TRANSFORMERS in parts:
        report = replace(report, transformers=noted.attempt(Part.TRANSFORMERS, time_transformers, run) or [])
    return replace(report, left_out=left_out, failed=noted.failures)


def _checks(run: EngineRun, noted: _Notes) -> list[CheckResult]:
    shapes = {"a small model": SMALL, f"its first {_CHECKED_LAYERS} layers": first_layers(run.shape, _CHECKED_LAYERS)}
    found = [noted.attempt(f"check, {what}", check_shape, what, shape, run) for what, shape in shapes.items()]
    return [check for check in found if check is not None]


def first_layers(shape: ModelShape, num_layers: int) -> ModelShape:
    return replace(shape, num_layers=num_layers)


def check_shape(what: str, shape: ModelShape, run: EngineRun) -> CheckResult:
    """The check on a model of its own."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(shape, Path(folder), run.dtype, run.device)
        return check_engine(what, replace(run, folder=folder, shape=shape))


class _Notes:
    """What failed, and why."""

    def __init__(self, part_timeout_s: float) -> None:
        self.failures: dict[str, str] = {}
        self._part_timeout_s = part_timeout_s

    def attempt(self, part: str, work: Callable[..., Result], *args: Any) -> Result | None:
        """What the work gives in a process of its own; None, and the reason noted, where it fails there."""
        _progress.print(f"{part} ...", highlight=False)
        try:
            return in_process(work, *args, timeout_s=self._part_timeout_s)
        except PartFailed as failure:
            self.failures[str(part)] = str(failure)
        return None


if __name__ == "__main__":
    app()
