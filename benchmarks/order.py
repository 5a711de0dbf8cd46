"""`python -m benchmarks.order`: whether requests start in key order on real Ray Serve, from outside and from inside.

Several ingresses and replicas of the fake engine, which computes nothing, so that the order itself is what works. Far
more requests are open than there are slots: each grant is compared with all who wait then.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.bound_margin import read_smallest_slack_s
from benchmarks.connection import Connection, Refused
from benchmarks.connection_pool import allow_many_connections
from benchmarks.http_response import ResponseBroken
from benchmarks.order_report import OrderLoad, OrderReport
from benchmarks.report import RESULTS, distinct_reasons, write_report
from benchmarks.service import application, shipped_service
from benchmarks.start_order import ALPHA, BETA, HeadersMissing, Start, depth, num_inversions
from benchmarks.target import errors_as_exit_code
from fastserve.machine import commit, this_machine
from fastserve.published_command import published_command

_MODEL = "fake"
_PATH = "/v1/completions"
_CPUS = 0.05  # logical, of each ingress and each rank: what computes nothing needs no core of its own

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the clients saw. smallest_slack_s: by the service's own check; None where nobody was ever overtaken."""

    took_s: float
    starts: list[Start]
    failures: list[str]
    smallest_slack_s: float | None


@app.command()
def main(
    requests: Annotated[int, typer.Option(min=1, max=1_000_000)] = 10_000,
    open_at_a_time: Annotated[int, typer.Option(min=1, max=10_000)] = 1_500,
    ingresses: Annotated[int, typer.Option(min=1, max=16)] = 4,
    replicas: Annotated[int, typer.Option(min=1, max=16)] = 3,
    slots: Annotated[int, typer.Option(min=1, max=1024, help="Of each replica.")] = 4,
    seed: Annotated[int, typer.Option(help="Of priorities and lengths.")] = 1,
    request_timeout_s: Annotated[float, typer.Option(min=1, max=3600)] = 600.0,
    ready_within_s: Annotated[float, typer.Option(min=1, max=7200)] = 600.0,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Count starts that were out of key order, with many requests of mixed priority waiting."""
    load = OrderLoad(requests, open_at_a_time, ingresses, replicas, slots, seed)
    allow_many_connections()
    with errors_as_exit_code(err), shipped_service(service_config(load), ready_within_s) as service:
        measured = asyncio.run(measure(service.base_url, load, request_timeout_s))
    report = _report(load, measured)
    path = write_report(report, results, "order")
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    err.print(f"written: {path} and .json beside it", markup=False, soft_wrap=True)
    raise typer.Exit(0 if report.is_in_order else 1)


def service_config(load: OrderLoad) -> dict[str, Any]:
    """A service that refuses nothing and preempts nobody, with the shipped weights of the score."""
    cpus = {"num_cpus": _CPUS}
    model = {
        "name": _MODEL,
        "source": "embedded:SmolLM2-135M-Instruct",
        "backend": "fake",
        "max_num_seqs": load.num_slots,
        "preemption": "off",
        "rank_num_cpus": _CPUS,
    }
    bounds = {
        "max_waiting": 2 * max(1_000, load.num_open),
        "max_predicted_wait_s": 86_400.0,
        "max_pending_prompts": 2 * max(1_000, load.num_open),
    }
    user_config = {"alpha": ALPHA, "beta": BETA, "bounds": bounds}
    ingress = {"name": "Ingress", "num_replicas": load.num_ingresses, "ray_actor_options": cpus}
    deployments = [{**ingress, "user_config": user_config}, {"name": _MODEL, "num_replicas": load.num_replicas}]
    return application(model, deployments)


async def measure(base_url: str, load: OrderLoad, request_timeout_s: float) -> Measured:
    """All requests, so many at a time, then the service's own figure.

    Raises:
        ServerFailed: the service does not give that figure.
    """
    planned = bodies(load)
    began_s = time.perf_counter()
    outcomes = await asyncio.gather(*(_client(base_url, planned, request_timeout_s) for _ in range(load.num_open)))
    took_s = time.perf_counter() - began_s
    told = [each for of_client in outcomes for each in of_client]
    return Measured(
        took_s,
        starts=[each for each in told if isinstance(each, Start)],
        failures=[each for each in told if isinstance(each, str)],
        smallest_slack_s=await asyncio.to_thread(read_smallest_slack_s, base_url),
    )


def bodies(load: OrderLoad) -> Iterator[dict[str, Any]]:
    """What is asked, in order; the same for the same seed."""
    rng = random.Random(load.seed)
    for number in range(load.num_requests):
        yield {
            "model": _MODEL,
            "prompt": f"Request {number}",
            "max_tokens": rng.randint(1, 3),
            "priority": float(rng.randint(-10, 10)),
            "ignore_eos": True,
            "stream": True,
        }


async def _client(base_url: str, planned: Iterator[dict[str, Any]], timeout_s: float) -> list[Start | str]:
    with contextlib.closing(Connection(base_url)) as connection:
        return [await _ask(connection, body, timeout_s) for body in planned]


async def _ask(connection: Connection, body: dict[str, Any], timeout_s: float) -> Start | str:
    """When it was registered and granted, or why it failed."""
    try:
        async with asyncio.timeout(timeout_s):
            return Start.of(body["priority"], (await connection.ask(_PATH, body)).headers)
    except TimeoutError:
        return f"no whole answer within {timeout_s:g} s"
    except (OSError, ResponseBroken, Refused, HeadersMissing) as error:
        return str(error) or type(error).__name__


def _report(load: OrderLoad, measured: Measured) -> OrderReport:
    waiting = depth(measured.starts)
    return OrderReport(
        date=datetime.now(UTC).date().isoformat(),
        command=published_command("python -m benchmarks.order", sys.argv[1:]),
        commit=commit(),
        machine=this_machine(),
        load=load,
        num_started=len(measured.starts),
        requests_per_s=len(measured.starts) / measured.took_s,
        num_inversions=num_inversions(measured.starts),
        smallest_slack_s=measured.smallest_slack_s,
        median_waiting=waiting.median,
        most_waiting=waiting.most,
        num_failed=len(measured.failures),
        failures=distinct_reasons(measured.failures),
    )


if __name__ == "__main__":
    app()
