"""`python -m benchmarks.live_pair`: two settings of the ingress in turn, in one service: what the first one costs.

Unless told otherwise: answers that go on with another replica when theirs is lost, against answers that do not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.live_config import LiveConfig, with_user_config
from benchmarks.live_pair_report import MEASURES, LivePairReport, figures
from benchmarks.load import Workload, distinct_prompts, run_level
from benchmarks.peers.pairs import comparisons, in_turn
from benchmarks.report import RESULTS, write_report
from benchmarks.service import application, shipped_service
from benchmarks.target import errors_as_exit_code
from fastserve.machine import commit, this_machine
from fastserve.published_command import published_command

MODEL = "SmolLM2-135M-Instruct"
_PROMPT_SEED = 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err = Console(stderr=True)


@app.command()
def main(
    first: Annotated[str, typer.Option(help="The ingress's user_config, as JSON.")] = '{"failover": {}}',
    second: Annotated[str, typer.Option(help="The other one.")] = '{"failover": {"max_failovers": 0}}',
    clients: Annotated[int, typer.Option(min=1, max=1024, help="At a time.")] = 4,
    rounds: Annotated[int, typer.Option(min=2, max=1000)] = 16,
    requests: Annotated[int, typer.Option(min=1, max=1000, help="Of each client in each turn.")] = 2,
    output_tokens: Annotated[int, typer.Option(min=2, max=4096)] = 64,
    prompt_words: Annotated[int, typer.Option(min=1, max=4096)] = 32,
    timeout_s: Annotated[float, typer.Option(min=1, max=3600)] = 300.0,
    ready_within_s: Annotated[float, typer.Option(min=1, max=7200)] = 600.0,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Measure streams under one setting and under the other, in turn, and report the ratios."""
    load = Workload(MODEL, prompt_words, output_tokens, requests, timeout_s)
    one, other = _read(first, "--first"), _read(second, "--second")
    document = service_config(one)
    with errors_as_exit_code(err), shipped_service(document, ready_within_s) as service:
        live = LiveConfig.of(service, document)
        prompts = distinct_prompts(prompt_words, _PROMPT_SEED)
        turn_of = _turns(live, service.base_url, load, clients, prompts)
        turn_of(one)(-1)  # nobody counts the first
        measured = comparisons(MEASURES, in_turn(rounds, turn_of(one), turn_of(other)))
    report = LivePairReport(
        date=datetime.now(UTC).date().isoformat(),
        command=published_command("python -m benchmarks.live_pair", sys.argv[1:]),
        commit=commit(),
        machine=this_machine(),
        settings=(json.dumps(one), json.dumps(other)),
        num_clients=clients,
        workload=load,
        comparisons=measured,
    )
    path = write_report(report, results, "live-pair")
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    err.print(f"written: {path} and .json beside it", markup=False, soft_wrap=True)


def service_config(user_config: dict[str, Any]) -> dict[str, Any]:
    """The shipped model behind one ingress."""
    model = {"name": MODEL, "source": f"embedded:{MODEL}", "kv_cache_tokens": 32_768}
    ingress = {"name": "Ingress", "ray_actor_options": {"num_cpus": 0.1}}
    return with_user_config(application(model, [ingress, {"name": MODEL, "num_replicas": 1}]), user_config)


def _read(text: str, option: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: expected JSON, got {text!r}: {error}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{option}: expected an object, got {text!r}")
    return found


def _turns(
    live: LiveConfig, base_url: str, load: Workload, num_clients: int, prompts: Iterator[str]
) -> Callable[[dict[str, Any]], Callable[[int], list[float]]]:
    """What plays one turn under a setting."""

    def turn_of(user_config: dict[str, Any]) -> Callable[[int], list[float]]:
        def play(_: int) -> list[float]:
            live.set_user_config(user_config)
            return figures(asyncio.run(run_level(base_url, load, num_clients, prompts)))

        return play

    return turn_of


if __name__ == "__main__":
    app()
