"""`fastserve simulate`: reads arguments, has the twin play, prints what came of it. The work is done elsewhere."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fastserve.exit_codes import err, errors_as_exit_code

Configs = Annotated[list[Path], typer.Argument(help="Configuration files, played beside each other.")]


def simulate(
    configs: Configs,
    costs: Annotated[Path, typer.Option(help="What `fastserve bench --calibrate` has written.")],
    workload: Annotated[Path, typer.Option(help="Classes, tenants and objectives; see benchmarks/traffic.yaml.")],
    what_if: Annotated[
        list[str] | None,
        typer.Option(help="'NAME: user_config.beta=0.2, model.max_num_seqs=16, deployment.num_replicas=2'; repeat it."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The file's first unless given.")] = None,
    rate: Annotated[float | None, typer.Option(min=1e-3, max=1e6, help="Poisson requests/s.")] = None,
    clients: Annotated[int | None, typer.Option(min=1, max=100_000, help="Or a closed loop of so many.")] = None,
    think_s: Annotated[float, typer.Option(min=0, max=86_400, help="Between an answer and the next request.")] = 0.0,
    duration_s: Annotated[float, typer.Option(min=0.1, max=8_640_000, help="Of the load in each round.")] = 600.0,
    rounds: Annotated[int, typer.Option(min=1, max=1000)] = 1,
    trace: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Recorded arrivals (Azure, BurstGPT).")
    ] = None,
    class_lengths: Annotated[bool, typer.Option(help="Keep the classes' lengths, not the trace's.")] = False,
    scale_prompts: Annotated[float, typer.Option(min=1e-6, max=1e6, help="Factor of a trace's prompts.")] = 1.0,
    scale_outputs: Annotated[float, typer.Option(min=1e-6, max=1e6, help="Factor of a trace's answers.")] = 1.0,
    max_prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Cut a trace's longer prompts.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1, help="Cut a trace's longer answers.")] = None,
    skip_broken: Annotated[bool, typer.Option(help="Leave a trace's broken rows out, and say how many.")] = False,
    retries: Annotated[int, typer.Option(min=0, max=1000, help="How often a refused client comes back.")] = 0,
    deadline: Annotated[list[str] | None, typer.Option(help="CLASS=SECONDS to the first token; repeat it.")] = None,
    allowed_tokens: Annotated[
        int | None, typer.Option(min=1, help="What clients allow an answer; as much as it gets unless given.")
    ] = None,
    startup_s: Annotated[float, typer.Option(min=0, max=3600, help="What a replica takes to start.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    measured: Annotated[
        Path | None, typer.Option(help="Results of a mixed load (benchmarks), to hold the first run against.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page; the figures go beside it, as .json.")] = Path("simulation.html"),
) -> None:
    """Play CONFIGS on virtual time, under a load that they have never seen, on engines that were measured."""
    from fastserve.costs_file import read_costs
    from fastserve.measured_run import read_measured
    from fastserve.published_command import published_command
    from fastserve.scenarios import Circumstances, load_scenario
    from fastserve.simulate_options import clients_of, load_of, replay_of
    from fastserve.traffic_file import read_traffic
    from fastserve.twin_run import Report, shown, shown_beside
    from fastserve.twin_run import simulate as play_all
    from fastserve.what_if import parse_what_if
    from simulation.replay import TraceTooShort
    from simulation.traces import TraceBroken
    from simulation.workload import Scale

    with errors_as_exit_code(TraceBroken, TraceTooShort, ValueError):
        traffic = read_traffic(workload)
        scale = (
            None if class_lengths else Scale(1.0, scale_prompts, scale_outputs, max_prompt_tokens, max_output_tokens)
        )
        load = load_of(traffic, replay_of(trace, skip_broken, scale), rate, clients, think_s, duration_s, rounds, seed)
        known = read_costs(costs)
        reality = None if measured is None else read_measured(measured)
        asking = clients_of(traffic, deadline or [], allowed_tokens, retries)
        given = Circumstances(known, asking, traffic.objectives, model, startup_s, seed)
        changes = [None, *map(parse_what_if, what_if or [])]
        scenarios = [load_scenario(path, change, given) for path in configs for change in changes]
        command = published_command("fastserve simulate", sys.argv[2:])
        date = datetime.now(UTC).date().isoformat()
        provenance = [f"command: {command}", f"date: {date}"]
        provenance += [f"costs, {name}: {value}" for name, value in known.provenance.items()]
        runs = play_all(scenarios, load, Report(out, provenance, reality), err)
    Console().print(shown(runs))
    if reality is not None:
        Console().print(shown_beside(runs[0], reality))
    err.print(f"written: {out} and {out.with_suffix('.json').name} beside it", markup=False, soft_wrap=True)
