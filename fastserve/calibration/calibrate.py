"""Calibrates the twin: the engine alone in a process of its own, then a running service; writes what both cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deployments.config import ModelConfig
from engine.config import EngineConfig
from fastserve.calibration.crowd import Crowd, played_s
from fastserve.calibration.engine_run import MeasuredEngine, measure_engine
from fastserve.calibration.overheads import fit_overheads
from fastserve.costs_file import Costs, HeldByEngine, write_costs
from fastserve.errors import FastServeError
from fastserve.machine import commit, this_machine
from fastserve.own_process import in_process
from fastserve.scenarios import replica_shape
from fastserve.service_queries import ServiceQueries
from fastserve.streamed_load import LoadLevel, LoadRequest, run_level
from simulation.engine_model import EngineModel, ServiceOverheads
from simulation.scenario import Scenario

_ENGINE_WITHIN_S = 3600.0
#: A single client's, so short that its prompt hardly takes longer than a decode.
_ALONE = Crowd(num_clients=1, num_each=12, num_prompt_tokens=8, num_output_tokens=32)
_CROWDS_PROMPT, _CROWDS_ANSWER, _NUM_EACH = 192, 96, 2


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
        overheads = _overheads(asked, measured, console)
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


def _overheads(asked: Calibration, measured: MeasuredEngine, console: Console) -> ServiceOverheads:
    """From a single client many times, and from as many at once as the batch holds, whose prompts and answers meet."""
    assert asked.base_url is not None
    _require_served(asked.base_url, asked.model.name)
    crowd = Crowd(asked.model.max_num_seqs, _NUM_EACH, _CROWDS_PROMPT, _CROWDS_ANSWER)
    with console.status(f"{asked.base_url}: up to {crowd.num_clients} clients"):
        _load(asked, replace(crowd, num_each=1, num_output_tokens=8), seed=0)  # warm-up
        alone, together = _load(asked, _ALONE, seed=1), _load(asked, crowd, seed=2)
    engine = measured.fit.model
    scenario = Scenario("calibration", replica_shape(asked.model, _held(measured)), engine)
    return fit_overheads(
        alone,
        _ALONE.num_prompt_tokens,
        engine,
        together.took_s,
        lambda overheads: played_s(replace(scenario, overheads=overheads), crowd),
    )


def _load(asked: Calibration, crowd: Crowd, seed: int) -> LoadLevel:
    """seed: of its own for each load; a prompt that was asked before would be found in the cache."""
    assert asked.base_url is not None
    request = LoadRequest(asked.model.name, crowd.num_prompt_tokens, crowd.num_output_tokens)
    return run_level(asked.base_url, request, crowd.num_clients, crowd.num_each, 3 * asked.seed + seed)


def _require_served(base_url: str, model: str) -> None:
    known = {each.id for each in ServiceQueries(base_url).models()}
    if model not in known:
        raise CalibrationRefused(f"{base_url}: expected a service of {model}, got {', '.join(sorted(known))}")


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
