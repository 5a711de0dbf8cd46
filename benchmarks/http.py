"""`python -m benchmarks.http`: how fast the service answers over HTTP. Runs the rounds and writes what they gave."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks.load import Failure, LevelRun, Workload, ask, distinct_prompts, run_level
from benchmarks.report import RESULTS, HttpReport, distinct_reasons, write_report
from benchmarks.summary import alternating_rounds, summarise
from benchmarks.target import Target, errors_as_exit_code, measured_service
from fastserve.errors import ServerFailed
from fastserve.machine import commit, this_machine
from fastserve.published_command import published_command
from fastserve.service_queries import ServiceQueries

DEFAULT_CLIENTS = [1, 8, 16, 32]
_WARM_UP_TOKENS = 16
_PROMPT_SEED = 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the rounds gave."""

    startup_s: float | None
    runs: list[LevelRun]


@app.command()
def main(
    config: Annotated[Path, typer.Option(help="What to serve.")] = Path("serve_config.yaml"),
    base_url: Annotated[str | None, typer.Option(help="A service that runs already, instead.")] = None,
    model: Annotated[str | None, typer.Option(help="The service's first unless given.")] = None,
    clients: Annotated[
        list[int], typer.Option(min=1, max=4096, help="A number of clients; repeat it.")
    ] = DEFAULT_CLIENTS,
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 3,
    requests: Annotated[int, typer.Option(min=1, max=1000, help="Of each client in each round.")] = 4,
    output_tokens: Annotated[int, typer.Option(min=1, max=65536)] = 128,
    prompt_words: Annotated[int, typer.Option(min=1, max=65536)] = 64,
    request_timeout_s: Annotated[float, typer.Option(min=1, max=3600)] = 300.0,
    ready_within_s: Annotated[float, typer.Option(min=1, max=7200)] = 600.0,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Measure streaming completions over HTTP, by number of clients, against a service that this command starts."""
    with errors_as_exit_code(err), measured_service(config, base_url, model, ready_within_s) as target:
        name = model or ServiceQueries(target.base_url).models()[0].id
        workload = Workload(name, prompt_words, output_tokens, requests, request_timeout_s)
        measured = asyncio.run(measure(target, workload, alternating_rounds(clients, rounds)))
    report = _report(target, workload, rounds, measured)
    path = write_report(report, results, "http")
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    err.print(f"written: {path} and .json beside it", markup=False, soft_wrap=True)
    raise typer.Exit(1 if report.failures else 0)


async def measure(target: Target, workload: Workload, rounds: Sequence[Sequence[int]]) -> Measured:
    """The first answer, a round that nobody counts, then the rounds.

    Raises:
        ServerFailed: the first request got no answer.
    """
    most = max(max(levels) for levels in rounds)
    prompts = distinct_prompts(workload.num_prompt_words, _PROMPT_SEED)
    startup_s = await _first_answer(workload, target, next(prompts))
    await run_level(target.base_url, _warm_up(workload), most, prompts)
    levels = [level for levels in rounds for level in levels]
    shown = track(levels, description="levels", console=err, transient=True)
    return Measured(startup_s, [await run_level(target.base_url, workload, level, prompts) for level in shown])


def _warm_up(load: Workload) -> Workload:
    return replace(load, requests_per_client=1, num_output_tokens=min(_WARM_UP_TOKENS, load.num_output_tokens))


async def _first_answer(load: Workload, target: Target, prompt: str) -> float | None:
    """Seconds from the command to the end of an answer of one token; None where the command was not ours."""
    answer = await ask(target.base_url, replace(load, num_output_tokens=1), prompt)
    if isinstance(answer, Failure):
        raise ServerFailed(f"the first request to {target.base_url}: {answer.reason}")
    return None if target.started_s is None else time.perf_counter() - target.started_s


def _report(target: Target, workload: Workload, num_rounds: int, measured: Measured) -> HttpReport:
    return HttpReport(
        date=datetime.now(UTC).date().isoformat(),
        command=published_command("python -m benchmarks.http", sys.argv[1:]),
        commit=commit(),
        machine=this_machine(),
        workload=workload,
        num_rounds=num_rounds,
        settings=target.settings,
        startup_s=measured.startup_s,
        levels=summarise(measured.runs),
        failures=distinct_reasons([failure.reason for run in measured.runs for failure in run.failures]),
    )


if __name__ == "__main__":
    app()
