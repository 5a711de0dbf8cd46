"""Calibrates the twin: the engine alone in a process of its own, then a running service; writes what both cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deployments.config import ModelConfig
from engine.config import EngineConfig
from fastserve.calibration.engine_run import MeasuredEngine, measure_engine
from fastserve.calibration.overheads import fit_overheads
from fastserve.costs_file import Costs, HeldByEngine, write_costs
from fastserve.errors import FastServeError
from fastserve.machine import commit, this_machine
from fastserve.own_process import in_process
from fastserve.service_queries import ServiceQueries
from fastserve.streamed_load import LoadLevel, LoadRequest, run_level
from simulation.engine_model import EngineModel, ServiceOverheads

_ENGINE_WITHIN_S = 3600.0
#: Prompts so short that the prefill of others hardly shows in the time between tokens.
_NUM_PROMPT_WORDS, _NUM_OUTPUT_TOKENS = 8, 128
_NUM_ALONE = 12


class CalibrationRefused(FastServeError):
    """What was asked for cannot be calibrated; the message says what can."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What to measure. base_url: of a service that runs this configuration; None leaves its overheads out."""

    model: ModelConfig
    base_url: str | None
    num_rounds: int
    seed: int
    command: str
    date: str


def calibrate(asked: Calibration, out: Path, console: Console) -> Costs:
    """Measures the engine in a process of its own, then the service, and writes both.

    Raises:
        CalibrationRefused: the model runs on several ranks.
        PartFailed: the engine could not be measured; the message says why.
        ServerUnreachable, RequestRefused: the service does not answer.
        FitFailed: it answered too little.
    """
    if asked.model.tensor_parallel_size != 1:
        raise CalibrationRefused(
            f"tensor_parallel_size: expected 1, which one process can run, got {asked.model.tensor_parallel_size}"
        )
    config = asked.model.to_engine_config(has_gpu=bool(this_machine().gpus))
    with console.status(f"{config.model_name}: the engine alone, {asked.num_rounds} rounds of steps"):
        measured = in_process(measure_engine, config, asked.num_rounds, asked.seed, timeout_s=_ENGINE_WITHIN_S)
    overheads = ServiceOverheads()
    if asked.base_url is not None:
        levels = _service_levels(asked.base_url, config, asked.seed, console)
        overheads = fit_overheads(levels, measured.fit.model, _NUM_PROMPT_WORDS)
    costs = Costs(
        model=config.model_name,
        engine=measured.fit.model,
        holds=_held(measured),
        overheads=overheads,
        provenance=_provenance(asked, config, measured),
    )
    write_costs(costs, out)
    return costs


def shown(costs: Costs) -> Table:
    """A calibration in words and numbers."""
    table = Table("cost", "value", title=costs.model)
    engine, step = costs.engine, costs.engine.step
    rows = {
        "a step": step.base_s,
        "a decode": step.decode_seq_s,
        "1,000 tokens of a decode's context": 1000 * step.context_token_s,
        "a token of a prompt": step.prefill_token_s,
        "the same, after 1,000 others": step.prefill_token_s + 1000 * engine.prefill_context_s,
        "a copied block": step.copied_block_s,
        "the way there and back": costs.overheads.to_queue_s
        + costs.overheads.to_engine_s
        + costs.overheads.to_client_s,
    }
    for name, value_s in rows.items():
        table.add_row(name, f"{1000 * value_s:.4g} ms")
    table.add_row("steps while it serves, over alone", f"{costs.overheads.slowdown:.2f}")
    table.add_row("steps beside their costs, p5 to p95", " to ".join(f"{share:.2f}" for share in _most(engine)))
    return table


def _most(engine: EngineModel) -> tuple[float, float]:
    spread = engine.spread
    return spread[len(spread) // 20], spread[-1 - len(spread) // 20]


def _service_levels(base_url: str, config: EngineConfig, seed: int, console: Console) -> list[LoadLevel]:
    """A single client many times, then more and more of them at once."""
    request = LoadRequest(config.model_name, _NUM_PROMPT_WORDS, _NUM_OUTPUT_TOKENS)
    known = {model.id for model in ServiceQueries(base_url).models()}
    if config.model_name not in known:
        raise CalibrationRefused(
            f"{base_url}: expected a service of {config.model_name}, got {', '.join(sorted(known))}"
        )
    counts = sorted({1, max(1, config.max_num_seqs // 4), max(1, config.max_num_seqs // 2), config.max_num_seqs})
    with console.status(f"{base_url}: up to {config.max_num_seqs} clients"):
        run_level(base_url, replace(request, num_output_tokens=8), config.max_num_seqs, 1, seed)  # warm-up
        return [
            run_level(base_url, request, number, _NUM_ALONE if number == 1 else 2, seed + number) for number in counts
        ]


def _held(measured: MeasuredEngine) -> HeldByEngine:
    capacity = measured.capacity
    return HeldByEngine(capacity.max_model_len, capacity.num_blocks, capacity.block_size, capacity.num_swap_slots)


def _provenance(asked: Calibration, config: EngineConfig, measured: MeasuredEngine) -> dict[str, str]:
    quality, machine = measured.fit.quality, this_machine()
    return {
        "date": asked.date,
        "command": asked.command,
        "commit": commit(),
        "hardware": machine.hardware(),
        "software": machine.software(),
        "model": f"{config.source}, {config.dtype}",
        "steps": f"{quality.num_samples} steps of {quality.num_shapes} kinds",
        "errors of the fit": f"median {quality.median_error:.1%}, worst {quality.worst_error:.1%} of a kind's median",
        "service": "measured" if asked.base_url is not None else "not measured: nothing is added to the engine",
    }
