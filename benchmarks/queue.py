"""`python -m benchmarks.queue`: how many grants a second one queue decides, and what one takes, with many waiting."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import ray
import typer
from rich.console import Console

from benchmarks.queue_in_process import measure_in_process
from benchmarks.queue_over_ray import measure_over_ray
from benchmarks.queue_report import QueueLevel, QueueReport, Times
from benchmarks.queue_tickets import QueueLoad
from benchmarks.report import RESULTS, write_report
from fastserve.machine import commit, this_machine
from fastserve.published_command import published_command
from fastserve.ray_environment import ray_environment

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err = Console(stderr=True)


@app.command()
def main(
    waiting: Annotated[list[int], typer.Option(min=1, max=1_000_000)] = [100, 5_000, 10_000],  # noqa: B006
    grants: Annotated[int, typer.Option(min=100, max=10_000_000, help="Of each figure.")] = 10_000,
    paced: Annotated[float, typer.Option(min=1, max=1e6, help="Grants/s while the handover is timed.")] = 1_000.0,
    ingresses: Annotated[int, typer.Option(min=1, max=64)] = 4,
    replicas: Annotated[int, typer.Option(min=1, max=1_000)] = 3,
    slots: Annotated[int, typer.Option(min=1, max=1024, help="Of each replica.")] = 32,
    tenants: Annotated[int, typer.Option(min=1, max=10_000)] = 8,
    seed: Annotated[int, typer.Option(help="Of priorities, lengths and tenants.")] = 1,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Time the queue's decisions in one process, and its grants over Ray."""
    loads = [QueueLoad(number, grants, ingresses, replicas, slots, tenants, seed) for number in waiting]
    with _own_ray():
        levels = [_level(load, paced) for load in loads]
    report = QueueReport(
        date=datetime.now(UTC).date().isoformat(),
        command=published_command("python -m benchmarks.queue", sys.argv[1:]),
        commit=commit(),
        machine=this_machine(),
        num_grants=grants,
        num_ingresses=ingresses,
        num_replicas=replicas,
        num_slots=slots,
        num_tenants=tenants,
        seed=seed,
        levels=levels,
    )
    path = write_report(report, results, "queue")
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    err.print(f"written: {path} and .json beside it", markup=False, soft_wrap=True)


def _level(load: QueueLoad, paced_per_s: float) -> QueueLevel:
    err.print(f"{load.num_waiting} waiting", markup=False)
    in_process = asyncio.run(measure_in_process(load))
    fast = asyncio.run(measure_over_ray(load, None))
    paced = asyncio.run(measure_over_ray(load, paced_per_s))
    return QueueLevel(
        load.num_waiting,
        in_process_per_s=load.num_grants / in_process.took_s,
        decision=Times.of(in_process.grant_s),
        over_ray_per_s=load.num_grants / fast.took_s,
        paced_per_s=load.num_grants / paced.took_s,
        handover=Times.of(paced.handover_s),
    )


@contextmanager
def _own_ray() -> Iterator[None]:
    """Ray as the service starts it, but for what the service needs Serve for."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ.update(ray_environment(os.environ, Path(folder), None))
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            yield
        finally:
            ray.shutdown()


if __name__ == "__main__":
    app()
