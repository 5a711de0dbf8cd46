"""`python -m tests.chaos [--events N] [--seed S] [--kinds a,b]`: disturbs a real service, and checks the books."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tests.chaos.cluster import running_cluster
from tests.chaos.disturbances import DISTURBANCES
from tests.chaos.evidence import keep
from tests.chaos.run import NOBODY, OVERLAP, Report, chaos


def main(
    events: Annotated[int, typer.Option(help="disturbances")] = 200,
    seed: Annotated[int, typer.Option(help="decides the order of the kinds, the victims and the questions")] = 0,
    kinds: Annotated[str, typer.Option(help="only these kinds, separated by commas")] = "",
    minutes: Annotated[float, typer.Option(min=1, help="no disturbance begins after so many")] = 240.0,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, help="share of them that the next one does not wait for")
    ] = OVERLAP,
    keep_logs: Annotated[
        Path | None, typer.Option(help="a new folder for the logs of a run that lost anything")
    ] = None,
) -> None:
    """Disturbs a service of two hosts in every way, one kind as often as the other, and checks the books."""
    chosen = kinds.split(",") if kinds else list(DISTURBANCES)
    with running_cluster() as cluster:
        if cluster.hosts.cable is None and "network" in chosen:
            typer.echo("network namespaces cannot be made here: the network is left alone")
            chosen.remove("network")
        report = None
        try:
            kinds_in_order = in_random_order(chosen, events, seed)
            report = asyncio.run(chaos(cluster, seed, kinds_in_order, _say, 60 * minutes, overlap))
        finally:
            if keep_logs is not None and (report is None or not report.is_clean):
                typer.echo(f"{keep(cluster.folder, keep_logs)} logs kept in {keep_logs}")
    _tell(report)
    sys.exit(0 if report.is_clean else 1)


def in_random_order(kinds: list[str], number: int, seed: int) -> list[str]:
    """Each kind as often as the others, give or take one."""
    repeated = (kinds * (number // len(kinds) + 1))[:number]
    random.Random(seed).shuffle(repeated)
    return repeated


def _say(line: str) -> None:
    typer.echo(line)


def _tell(report: Report) -> None:
    done = Counter(event.kind for event in report.events if event.what != NOBODY)
    typer.echo(f"\nseed {report.seed}; {done.total()} events: {dict(done)}")
    typer.echo(
        f"requests sent: {report.books.num_sent}; ends: { {end.value: n for end, n in report.books.ends.items()} }"
    )
    typer.echo(f"connections broken with their own ingress, proxy or host: {len(report.books.excused)}")
    typer.echo(f"longest gap in a stream: {report.slowest_gap_s:.1f} s; longest answer: {report.slowest_s:.1f} s")
    slack = "nobody was overtaken" if report.slack_s is None else f"{report.slack_s:.2f} s"
    typer.echo(f"least distance to the bound on order: {slack}")
    typer.echo(f"lost: {len(report.books.lost)}; left over: {report.left or 'nothing'}")
    for entry in report.books.lost[:10]:
        typer.echo(f"  {entry.request_id}: {entry.end.value}: {entry.detail}")
    for line in report.told:
        typer.echo(f"  {line}")


if __name__ == "__main__":
    typer.run(main)
