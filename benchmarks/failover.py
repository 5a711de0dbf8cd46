"""`python -m benchmarks.failover`: what streams lose when their replica, or a rank of it, is killed under them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer
from rich.console import Console

from benchmarks.failover_report import FailoverLoad, FailoverReport, VictimResult
from benchmarks.moved_stream import StreamRead, read_stream
from benchmarks.report import RESULTS, distinct_reasons, write_report
from benchmarks.service import application, shipped_service
from benchmarks.target import errors_as_exit_code
from fastserve.errors import ServerFailed
from fastserve.machine import commit, this_machine
from fastserve.published_command import published_command

MODEL = "SmolLM2-135M-Instruct"
NUM_REPLICAS = 2
BEGUN = 8  # pieces that each stream has had when the process is killed
RECOVERS_WITHIN_S = 300.0
_TITLES = {"replica": f"ray::ServeReplica:fastserve:{MODEL}", "rank": "ray::Rank"}
_LOOK_AGAIN_S = 0.2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
err = Console(stderr=True)


@app.command()
def main(
    streams: Annotated[int, typer.Option(min=2, max=256)] = 16,
    output_tokens: Annotated[int, typer.Option(min=32, max=4096)] = 96,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="For each kind of victim.")] = 2,
    timeout_s: Annotated[float, typer.Option(min=1, max=3600)] = 300.0,
    ready_within_s: Annotated[float, typer.Option(min=1, max=7200)] = 600.0,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Kill a replica, then a rank, under streams that run, and compare what clients read with undisturbed answers."""
    settings: dict[str, object] = {"dtype": "float32", "max_num_seqs": streams, "num_threads": 1, "rank_num_cpus": 0.3}
    with errors_as_exit_code(err), shipped_service(service_config(settings), ready_within_s) as service:
        victims = asyncio.run(_measure(service.base_url, streams, output_tokens, rounds, timeout_s))
    report = FailoverReport(
        date=datetime.now(UTC).date().isoformat(),
        command=published_command("python -m benchmarks.failover", sys.argv[1:]),
        commit=commit(),
        machine=this_machine(),
        load=FailoverLoad(streams, output_tokens, rounds, settings),
        victims=victims,
    )
    path = write_report(report, results, "failover")
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    err.print(f"written: {path} and .json beside it", markup=False, soft_wrap=True)
    raise typer.Exit(0 if report.is_whole else 1)


def service_config(settings: dict[str, object]) -> dict[str, Any]:
    """The shipped model on two replicas behind one ingress."""
    model = {"name": MODEL, "source": f"embedded:{MODEL}", "kv_cache_tokens": 16_384, **settings}
    ingress = {"name": "Ingress", "ray_actor_options": {"num_cpus": 0.1}}
    return application(model, [ingress, {"name": MODEL, "num_replicas": NUM_REPLICAS}])


def bodies(num_streams: int, num_tokens: int) -> list[dict[str, Any]]:
    """What is asked: every other one sampled, under a seed of its own."""
    common = {"model": MODEL, "max_tokens": num_tokens, "ignore_eos": True}
    return [
        {
            **common,
            "prompt": f"Story number {number}: once upon a time",
            "seed": number,
            "temperature": 0.8 * (number % 2),
        }
        for number in range(num_streams)
    ]


async def _measure(
    base_url: str, num_streams: int, num_tokens: int, num_rounds: int, timeout_s: float
) -> list[VictimResult]:
    asked = _Asked(base_url, bodies(num_streams, num_tokens), timeout_s)
    await _until_whole(base_url)
    undisturbed = await asked.read_all()
    results = []
    for victim in ("replica", "rank"):
        rounds = [await _round(asked, victim) for _ in range(num_rounds)]
        results.append(result_of(victim, undisturbed, rounds))
    return results


@dataclass(frozen=True, slots=True)
class Round:
    """What was read while replica `lost` was."""

    lost: str
    reads: list[StreamRead]


def result_of(victim: str, undisturbed: list[StreamRead], rounds: list[Round]) -> VictimResult:
    """The sum of the rounds with one kind of victim."""
    pairs = [(read, whole) for each in rounds for read, whole in zip(each.reads, undisturbed, strict=True)]
    failures = [
        read.error or f"{read.text!r} instead of {whole.text!r}" for read, whole in pairs if not read.is_as(whole)
    ]
    moved = [read.added_delay_s for each in rounds for read in each.reads if read.replica_id == each.lost]
    stayed = [read.added_delay_s for each in rounds for read in each.reads if read.replica_id != each.lost]
    return VictimResult(victim, len(pairs), len(pairs) - len(failures), moved, stayed, distinct_reasons(failures))


@dataclass(frozen=True, slots=True)
class _Asked:
    """The streams of one round."""

    base_url: str
    bodies: list[dict[str, Any]]
    timeout_s: float

    async def read_all(self, begun: asyncio.Event | None = None) -> list[StreamRead]:
        """All at the same time. begun: set when each has had its first pieces."""
        num_left = [BEGUN] * len(self.bodies)

        def count(index: int) -> None:
            num_left[index] -= 1
            if begun is not None and max(num_left) <= 0:
                begun.set()

        reads = (
            read_stream(self.base_url, body, self.timeout_s, lambda index=index: count(index))  # type: ignore[misc]
            for index, body in enumerate(self.bodies)
        )
        return await asyncio.gather(*reads)


async def _round(asked: _Asked, victim: str) -> Round:
    """One kill in the middle, and the service whole again afterwards."""
    before = await _until_whole(asked.base_url)
    begun = asyncio.Event()
    reading = asyncio.create_task(asked.read_all(begun))
    begins = asyncio.create_task(begun.wait())
    await asyncio.wait({reading, begins}, return_when=asyncio.FIRST_COMPLETED)
    begins.cancel()
    os.kill(_first_process(_TITLES[victim]), signal.SIGKILL)
    reads = await reading
    after = await _until_whole(asked.base_url, but=before)
    [lost] = before - after
    return Round(lost, reads)


def _first_process(title: str) -> int:
    """Of this service: it descends from this process.

    Raises:
        ServerFailed: there is none.
    """
    for process in psutil.Process().children(recursive=True):
        if process.is_running() and any(title in part for part in process.cmdline()[:1]):
            return process.pid
    raise ServerFailed(f"no process is called {title}")


async def _until_whole(base_url: str, but: set[str] | None = None) -> set[str]:
    """The ids of the replicas, once there are as many as there should be. but: and not just these.

    Raises:
        ServerFailed: not in time.
    """
    try:
        async with asyncio.timeout(RECOVERS_WITHIN_S), httpx.AsyncClient(base_url=base_url) as http:
            while True:
                queue = (await http.get("/v1/queue")).json()["data"]
                found = {one["replica_id"] for model in queue for one in model["replicas"] if not one["quarantined"]}
                if len(found) == NUM_REPLICAS and found != but:
                    return found
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        raise ServerFailed(f"not {NUM_REPLICAS} replicas within {RECOVERS_WITHIN_S:g} s") from None


if __name__ == "__main__":
    app()
