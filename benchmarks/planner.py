"""`python -m benchmarks.planner`: what planning and recording one step costs, by the number of running decodes.

It drives the batcher alone: no engine, no tensors.
"""

from __future__ import annotations

import statistics
import time
from typing import Annotated

import typer
from rich.console import Console

from scheduling.batcher import Batcher, BatchLimits
from scheduling.kv_blocks import BlockPool
from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import Sequence

NUM_RUNNING = (1, 32, 256)
PROMPT_TOKENS, BLOCK_SIZE = 64, 16

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(steps: Annotated[int, typer.Option(min=16, help="Steps of each size.")] = 2000) -> None:
    """Print the median time of `plan` and of recording what it planned."""
    console = Console()
    for num_running in NUM_RUNNING:
        planned_us, recorded_us = measure(num_running, steps)
        console.print(f"{num_running:4d} running: plan {planned_us:7.1f} us, record {recorded_us:7.1f} us")


def measure(num_running: int, num_steps: int) -> tuple[float, float]:
    """Median microseconds of planning one step of decodes, and of recording it."""
    batcher = running_batcher(num_running, num_steps)
    planned_s, recorded_s = [], []
    for _ in range(num_steps):
        started_s = time.perf_counter()
        slices = batcher.plan().slices
        between_s = time.perf_counter()
        for part in slices:
            batcher.record(part, 7)
        planned_s.append(between_s - started_s)
        recorded_s.append(time.perf_counter() - between_s)
    return statistics.median(planned_s) * 1e6, statistics.median(recorded_s) * 1e6


def running_batcher(num_running: int, num_steps: int) -> Batcher:
    """A batcher whose sequences have computed their prompts and will not end while it is measured."""
    longest = PROMPT_TOKENS + num_steps + 2
    num_blocks = num_running * (longest // BLOCK_SIZE + 2)
    batcher = Batcher(BatchLimits(num_running, num_running * PROMPT_TOKENS), BlockPool(num_blocks, BLOCK_SIZE))
    batcher.set_policy(ScorePolicy())
    for index in range(num_running):
        tokens = [index * PROMPT_TOKENS + position for position in range(PROMPT_TOKENS)]
        batcher.add(Sequence(str(index), Stamp(0, index), tokens, PROMPT_TOKENS, longest))
    for part in batcher.plan().slices:
        batcher.record(part, 7)
    return batcher


if __name__ == "__main__":
    app()
