"""`python -m benchmarks.mixed_priority`: what each class of a mixed load gets of a service, alone or beside a peer."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.asking import Asking, PriorityRuns
from benchmarks.bound_margin import read_smallest_slack_s
from benchmarks.capacity import FEWEST_CLIENTS
from benchmarks.connection_pool import allow_many_connections
from benchmarks.memory import MemoryGrowth, watched_memory
from benchmarks.mixed_report import MixedReport, class_facts
from benchmarks.mixed_rounds import Side, SideRound
from benchmarks.mixed_run import MixedLoad, MixedRun, run_mixed
from benchmarks.peers.pairs import Comparison
from benchmarks.plan import SHIPPED
from benchmarks.report import RESULTS, write_report
from benchmarks.side_report import SideReport, compared, side_report
from benchmarks.target import Target, errors_as_exit_code, measured_service
from fastserve.errors import ServerFailed
from fastserve.machine import commit, this_machine
from fastserve.published_command import published_command
from fastserve.service_queries import ServiceQueries
from fastserve.traffic_file import Traffic, read_traffic
from simulation.replay import Replay, TraceTooShort
from simulation.traces import TraceBroken, read_trace
from simulation.workload import Scale

_OURS, _PEER = "service", "peer"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err = Console(stderr=True)


@app.command()
def main(
    config: Annotated[Path, typer.Option(help="What to serve.")] = Path("serve_config.yaml"),
    base_url: Annotated[str | None, typer.Option(help="A service that runs already, instead.")] = None,
    model: Annotated[str | None, typer.Option(help="The service's first unless given.")] = None,
    priority_runs: Annotated[
        PriorityRuns, typer.Option(help="Which priority the service runs first; vLLM the lower.")
    ] = PriorityRuns.HIGHER_FIRST,
    peer_url: Annotated[str | None, typer.Option(help="A second service, asked the same in turn.")] = None,
    peer_model: Annotated[str | None, typer.Option(help="The peer's first unless given.")] = None,
    peer_priority_runs: Annotated[PriorityRuns | None, typer.Option(help="Needed with --peer-url.")] = None,
    traffic: Annotated[Path, typer.Option(help="Classes, their objectives, tenants.")] = SHIPPED,
    rate: Annotated[float | None, typer.Option(min=1e-3, max=1e6, help="Requests/s.")] = None,
    load: Annotated[
        float | None, typer.Option(min=1e-3, max=1e6, help="Or a multiple of the capacity, measured first.")
    ] = None,
    duration_s: Annotated[float, typer.Option(min=0.1, max=86_400, help="Of the load in each round.")] = 120.0,
    rounds: Annotated[int | None, typer.Option(min=1, max=100, help="1, or 2 with a peer, unless given.")] = None,
    trace: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Recorded arrivals (Azure, BurstGPT) instead of Poisson."),
    ] = None,
    class_lengths: Annotated[bool, typer.Option(help="Keep the classes' lengths, not the trace's.")] = False,
    scale_prompts: Annotated[float, typer.Option(min=1e-6, max=1e6, help="Factor of a trace's prompts.")] = 1.0,
    scale_outputs: Annotated[float, typer.Option(min=1e-6, max=1e6, help="Factor of a trace's answers.")] = 1.0,
    max_prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Cut a trace's longer prompts.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1, help="Cut a trace's longer answers.")] = None,
    skip_broken: Annotated[bool, typer.Option(help="Leave a trace's broken rows out, and say how many.")] = False,
    retry: Annotated[bool, typer.Option(help="Refused clients come back exactly after Retry-After.")] = False,
    idle_requests: Annotated[int, typer.Option(min=1, help="Of the most urgent class alone, each round.")] = 30,
    idle_rate: Annotated[float, typer.Option(min=1e-3, max=1e6, help="Requests/s of the idle phase.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of all that is drawn but the words.")] = 1,
    request_timeout_s: Annotated[float, typer.Option(min=0.1, max=3600, help="From its scheduled time.")] = 300.0,
    capacity_level_s: Annotated[float, typer.Option(min=0.1, max=3600, help="For each number of clients.")] = 30.0,
    max_clients: Annotated[int, typer.Option(min=FEWEST_CLIENTS * 2, help="That --load may try.")] = 512,
    ready_within_s: Annotated[float, typer.Option(min=1, max=7200)] = 600.0,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Send requests of several classes on a fixed schedule, and report what each class got.

    Ends with 1 if a request failed or the sender was late, with 2 if nothing could be measured.
    """
    _check_choice(rate, load, trace, peer_url, peer_priority_runs)
    scale = Scale(1.0, scale_prompts, scale_outputs, max_prompt_tokens, max_output_tokens)
    with errors_as_exit_code(err, TraceBroken, TraceTooShort):
        replay = None if trace is None else _replay(trace, skip_broken, None if class_lengths else scale)
        mixed = MixedLoad(
            traffic=_as_recorded(read_traffic(traffic), replay),
            replay=replay,
            rate_per_s=rate,
            load=load,
            duration_s=duration_s,
            idle_requests=idle_requests,
            idle_rate_per_s=idle_rate,
            num_rounds=rounds or (1 if peer_url is None else 2),
            seed=seed,
            level_s=capacity_level_s,
            max_clients=max_clients,
        )
        allow_many_connections()
        with measured_service(config, base_url, model, ready_within_s) as target:
            sides = [_side(_OURS, target.base_url, model, priority_runs, mixed, request_timeout_s, retry)]
            if peer_url is not None and peer_priority_runs is not None:
                sides.append(_side(_PEER, peer_url, peer_model, peer_priority_runs, mixed, request_timeout_s, retry))
            with watched_memory() as memory:
                run = run_mixed(sides, mixed, time.time_ns(), lambda words: err.print(words, markup=False))
            slack_s = _own_check(target.base_url, next(iter(mixed.traffic.api_keys.values()), None))
    growth = memory.growth(duration_s) if base_url is None and mixed.num_rounds == 1 else None
    report = _report(target, sides, mixed, run, slack_s, growth)
    path = write_report(report, results, "mixed-priority")
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    err.print(f"written: {path} and .json beside it", markup=False, soft_wrap=True)
    raise typer.Exit(0 if report.is_valid and report.num_failed == 0 else 1)


def _own_check(base_url: str, api_key: str | None) -> float | None:
    """The smallest slack of the bound on overtaking, where the service keeps such a check."""
    try:
        return read_smallest_slack_s(base_url, api_key)
    except ServerFailed:
        return None


def _check_choice(
    rate: float | None,
    load: float | None,
    trace: Path | None,
    peer_url: str | None,
    peer_priority_runs: PriorityRuns | None,
) -> None:
    if rate is not None and load is not None:
        raise typer.BadParameter(f"--rate, --load: expected one of the two, got {rate:g} and {load:g}")
    if rate is None and load is None and trace is None:
        raise typer.BadParameter("--rate, --load, --trace: expected a rate, a load or a trace with its own, got none")
    if peer_url is not None and peer_priority_runs is None:
        raise typer.BadParameter(
            f"--peer-priority-runs: expected with --peer-url one of {', '.join(PriorityRuns)}, got none"
        )


def _replay(path: Path, skip_broken: bool, lengths: Scale | None) -> Replay:
    recorded = read_trace(path, skip_broken=skip_broken)
    if recorded.num_skipped:
        err.print(f"{path}: {recorded.num_skipped} broken rows left out", markup=False, soft_wrap=True)
    return Replay(path.name, recorded, lengths)


def _as_recorded(traffic: Traffic, replay: Replay | None) -> Traffic:
    """With the trace's lengths, where it is replayed with them: also idle, and while the capacity is measured."""
    lengths = None if replay is None else replay.recorded_lengths
    return traffic if lengths is None else traffic.with_lengths(lengths)


def _side(
    name: str,
    base_url: str,
    model: str | None,
    priority_runs: PriorityRuns,
    mixed: MixedLoad,
    request_timeout_s: float,
    comes_back: bool,
) -> Side:
    """Tenants' keys are for our service alone."""
    keys = mixed.traffic.api_keys if name == _OURS else {}
    any_key = next(iter(keys.values()), None)
    asked = model or ServiceQueries(base_url, any_key).models()[0].id
    return Side(name, base_url, Asking(asked, priority_runs, request_timeout_s, comes_back, keys))


def _report(
    target: Target,
    sides: Sequence[Side],
    mixed: MixedLoad,
    run: MixedRun,
    smallest_slack_s: float | None,
    memory: MemoryGrowth | None,
) -> MixedReport:
    return MixedReport(
        date=datetime.now(UTC).date().isoformat(),
        command=published_command("python -m benchmarks.mixed_priority", sys.argv[1:]),
        commit=commit(),
        machine=this_machine(),
        model=sides[0].asking.model,
        settings=target.settings,
        arrivals=mixed.arrivals_in_words(run.rate_per_s),
        classes=class_facts(mixed.traffic),
        tenants={each.name: each.share for each in mixed.traffic.mix.tenants},
        duration_s=mixed.duration_s,
        num_rounds=mixed.num_rounds,
        rate_per_s=run.rate_per_s,
        load=mixed.load,
        capacity=run.capacity,
        tokens_per_word=run.tokens_per_word,
        idle_rate_per_s=mixed.idle_rate_per_s,
        sides=[_side_report(side, mixed, rounds) for side, rounds in zip(sides, run.rounds, strict=True)],
        comparisons=_comparisons(sides, mixed, run),
        smallest_slack_s=smallest_slack_s,
        memory=memory,
    )


def _comparisons(sides: Sequence[Side], mixed: MixedLoad, run: MixedRun) -> list[Comparison]:
    if len(sides) == 1:
        return []
    ours, peers = (
        [_side_report(side, mixed, [each]) for each in rounds] for side, rounds in zip(sides, run.rounds, strict=True)
    )
    return compared(ours, peers)


def _side_report(side: Side, mixed: MixedLoad, rounds: Sequence[SideRound]) -> SideReport:
    traffic = mixed.traffic
    return side_report(side.name, rounds, traffic.objectives, traffic.most_urgent.name, side.asking.comes_back)


if __name__ == "__main__":
    app()
