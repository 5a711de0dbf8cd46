"""`python -m benchmarks.tensor_parallel`: the same cores as one rank with all threads and as two with half each.

Two models: the embedded one, whose heads do not divide by two, and one of its size with random weights whose heads do.
The two sides are loaded together and take turns; the one that waits sleeps.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks.engine import EngineWorkload, run_batch
from benchmarks.engine_report import public_command
from benchmarks.report import RESULTS, write_report
from engine.checkpoint import resolve
from engine.config import EngineConfig
from fastserve.machine import Machine, commit, provenance, this_machine
from fastserve.ports import LOOPBACK, free_port

_EMBEDDED = "embedded:SmolLM2-135M-Instruct"
_LOAD = EngineWorkload(num_prompt_tokens=64, num_output_tokens=64)
_WITHIN_S = 300.0
_END_WITHIN_S = 20.0
DEFAULT_SEQUENCES = [1, 8, 32]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Pairs:
    """One model and number of sequences: output tokens/s of each turn, as one rank and as two."""

    model: str
    num_sequences: int
    whole: list[float]
    split: list[float]

    @property
    def ratios(self) -> list[float]:
        return [split / whole for whole, split in zip(self.whole, self.split, strict=True)]


@dataclass(frozen=True, slots=True)
class TensorParallelReport:
    """One run."""

    date: str
    command: str
    commit: str
    machine: Machine
    pairs: list[Pairs]

    def to_json(self) -> str:
        return json.dumps({"benchmark": "tensor parallel", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        lines = [
            f"# Tensor-parallel benchmark, {self.date}",
            "",
            f"The engine's own loop in bf16: {_LOAD.num_prompt_tokens} prompt tokens and {_LOAD.num_output_tokens} "
            "output tokens each, greedy. Two ranks share the cores that one rank has alone; the sides take turns. The "
            f"median of {len(self.pairs[0].whole)} pairs' ratios, with the lowest and the highest; rates are medians.",
            "",
            "| model | sequences | two ranks over one | one rank, tokens/s | two ranks, tokens/s |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(_row(pairs) for pairs in self.pairs),
            "",
            *provenance(self.command, self.commit, self.machine),
        ]
        return "\n".join(lines) + "\n"


def _row(pairs: Pairs) -> str:
    ratios = f"{statistics.median(pairs.ratios):.2f} ({min(pairs.ratios):.2f} to {max(pairs.ratios):.2f})"
    rates = f"{statistics.median(pairs.whole):.1f} | {statistics.median(pairs.split):.1f}"
    return f"| {pairs.model} | {pairs.num_sequences} | {ratios} | {rates} |"


@app.command()
def main(
    sequences: Annotated[list[int], typer.Option(min=1, max=32, help="A number of sequences; repeat it.")] = (
        DEFAULT_SEQUENCES
    ),
    num_pairs: Annotated[int, typer.Option("--pairs", min=1, max=100)] = 5,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Measure both models as one rank and as two, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        models = {"embedded, 9 and 3 heads": _EMBEDDED, "random, 8 and 4 heads": make_divisible(Path(folder))}
        pairs = [found for name, source in models.items() for found in compare(name, source, sequences, num_pairs)]
    report = TensorParallelReport(
        date=datetime.now(UTC).date().isoformat(),
        command=public_command("benchmarks.tensor_parallel"),
        commit=commit(),
        machine=this_machine(),
        pairs=pairs,
    )
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    write_report(report, results, "tensor-parallel")


def make_divisible(folder: Path) -> str:
    """The embedded model's architecture with 8 heads of 64 and 4 of keys and values, and random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(resolve(_EMBEDDED))
    config.hidden_size, config.num_attention_heads, config.num_key_value_heads = 512, 8, 4
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return str(folder)


def compare(name: str, source: str, sequences: Sequence[int], num_pairs: int) -> list[Pairs]:
    """Every pair of turns runs all numbers of sequences; the order of the sides alternates."""
    found = [Pairs(name, number, [], []) for number in sequences]
    with ExitStack() as sides:
        whole, split = (sides.enter_context(running_side(source, num_ranks)) for num_ranks in (1, 2))
        for turn in track(range(num_pairs), description=name, console=Console(stderr=True), transient=True):
            for pairs in found:
                order = [(whole, pairs.whole), (split, pairs.split)]
                for side, rates in order if turn % 2 == 0 else reversed(order):
                    rates.append(side.rate(pairs.num_sequences, turn))
    return found


class Side:
    """One of the two: asks its rank 0 for a batch and waits for the rate."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._answer()  # it is loaded and warm

    def rate(self, num_sequences: int, seed: int) -> float:
        """Output tokens/s of a batch."""
        self._pipe.send((num_sequences, seed))
        return self._answer()

    def _answer(self) -> float:
        if not self._pipe.poll(_WITHIN_S):
            raise RuntimeError(f"no answer within {_WITHIN_S:g} s")
        rate: float = self._pipe.recv()
        return rate


@contextmanager
def running_side(source: str, num_ranks: int) -> Iterator[Side]:
    """A process a rank, with an equal share of the cores each; they end with the block, and with this process."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    port, num_threads = free_port(), max(1, len(os.sched_getaffinity(0)) // num_ranks)
    config = EngineConfig(
        "bench",
        source,
        tensor_parallel_size=num_ranks,
        num_threads=num_threads,
        max_num_seqs=32,
        kv_cache_tokens=32 * 256,
        prefix_caching=False,
        preemption="off",
    )
    ranks = [
        spawn.Process(target=_run_rank, args=(rank, config, port, there), daemon=True) for rank in range(num_ranks)
    ]
    for process in ranks:
        process.start()
    there.close()
    try:
        yield Side(here)
    finally:
        here.close()
        for process in ranks:
            process.join(_END_WITHIN_S)
            process.kill()
            process.join()


def _run_rank(rank: int, config: EngineConfig, port: int, pipe: Connection) -> None:
    from engine.backends.deepspeed import DeepSpeedEngine, FollowingRank, load_rank
    from engine.loop import EngineLoop

    loaded = load_rank(config, rank, LOOPBACK, port)
    if rank > 0:
        pipe.close()
        FollowingRank(loaded).follow()
        return
    engine = DeepSpeedEngine(loaded)
    loop = EngineLoop(engine, config)
    pipe.send(run_batch(loop, _LOAD, config.max_num_seqs, seed=-1).tokens_per_s)
    try:
        while True:
            num_sequences, seed = pipe.recv()
            pipe.send(run_batch(loop, _LOAD, num_sequences, seed=seed).tokens_per_s)
    except EOFError:  # nobody will ask any more
        engine.close()


if __name__ == "__main__":
    app()
