"""`python -m benchmarks.engine`: how fast the engine decodes and prefills by itself, without Ray or HTTP.

It drives the loop and the backend that a replica runs, in this process, on one rank.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks.engine_report import EngineReport, LevelRate, public_command
from benchmarks.report import RESULTS, write_report
from benchmarks.summary import alternating_rounds
from engine.backends.deepspeed import DeepSpeedEngine, load_rank
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, SamplingParams
from fastserve.machine import commit, this_machine
from fastserve.ports import LOOPBACK, free_port
from scheduling.score import ScorePolicy, Stamp

DEFAULT_SEQUENCES = [1, 8, 16, 32]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class EngineWorkload:
    """Every sequence of a round: random prompt tokens, all different, and a greedy answer of a fixed length."""

    num_prompt_tokens: int
    num_output_tokens: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One round of one number of sequences, from the first step to the last answer."""

    num_sequences: int
    took_s: float
    num_tokens: int

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.took_s


@app.command()
def main(
    source: Annotated[str, typer.Option(help="A folder, a hub id or an embedded model.")] = (
        "embedded:SmolLM2-135M-Instruct"
    ),
    sequences: Annotated[
        list[int], typer.Option(min=1, max=4096, help="A number of sequences; repeat it.")
    ] = DEFAULT_SEQUENCES,
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 5,
    prompt_tokens: Annotated[int, typer.Option(min=1)] = 64,
    output_tokens: Annotated[int, typer.Option(min=2)] = 128,
    prefill_tokens: Annotated[int, typer.Option(min=1, help="Of the prompt whose prefill is timed.")] = 512,
    threads: Annotated[int | None, typer.Option(min=1, help="All cores unless given.")] = None,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Measure the engine alone, by number of sequences."""
    most, longest = max(sequences), max(prompt_tokens + output_tokens, prefill_tokens + 1)
    config = EngineConfig(
        "bench",
        source,
        max_num_seqs=most,
        max_num_batched_tokens=max(512, most, prefill_tokens),
        kv_cache_tokens=most * (longest + 16),
        prefix_caching=False,
        num_threads=threads,
    )
    loop = EngineLoop(DeepSpeedEngine(load_rank(config, 0, LOOPBACK, free_port())), config)
    load = EngineWorkload(prompt_tokens, output_tokens)
    run_batch(loop, replace(load, num_output_tokens=4), most, seed=0)
    levels = [level for levels in alternating_rounds(sequences, rounds) for level in levels]
    shown = track(list(enumerate(levels, 1)), description="rounds", console=Console(stderr=True), transient=True)
    batches = [run_batch(loop, load, level, seed=seed) for seed, level in shown]
    prefills = [run_prefill(loop, prefill_tokens, seed=seed) for seed in range(rounds + 1)][1:]
    report = EngineReport(
        date=datetime.now(UTC).date().isoformat(),
        command=public_command("benchmarks.engine"),
        commit=commit(),
        machine=this_machine(),
        num_prompt_tokens=prompt_tokens,
        num_output_tokens=output_tokens,
        num_rounds=rounds,
        levels=[_rate(level, batches) for level in sorted(set(sequences))],
        prefill_tokens=prefill_tokens,
        prefill_tokens_per_s=statistics.median(prefills),
    )
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    write_report(report, results, "engine")


def run_batch(loop: EngineLoop, load: EngineWorkload, num_sequences: int, seed: int) -> Batch:
    """All sequences at once, until the last has ended."""
    loop.apply(CommandMessage(added=[_request(load, f"{seed}-{i}", seed * 4096 + i) for i in range(num_sequences)]))
    started_s, num_tokens = time.perf_counter(), 0
    while loop.has_work:
        outputs = loop.step().outputs
        failed = next((output.error for output in outputs if output.error), None)
        if failed is not None:
            raise RuntimeError(failed)
        num_tokens += sum(len(output.token_ids) for output in outputs)
    return Batch(num_sequences, time.perf_counter() - started_s, num_tokens)


def run_prefill(loop: EngineLoop, num_tokens: int, seed: int) -> float:
    """Prompt tokens a second of one long prompt, up to its first token."""
    batch = run_batch(loop, EngineWorkload(num_tokens, 1), 1, seed=1_000_000 + seed)
    return num_tokens / batch.took_s


def _request(load: EngineWorkload, lease_id: str, seed: int) -> EngineRequest:
    prompt = [100 + (seed * 7919 + i * 104_729) % 40_000 for i in range(load.num_prompt_tokens)]
    sampling = SamplingParams(max_tokens=load.num_output_tokens, seed=seed, temperature=0.0, ignore_eos=True)
    return EngineRequest(lease_id, prompt, sampling, Stamp(0, 0), ScorePolicy())


def _rate(num_sequences: int, batches: list[Batch]) -> LevelRate:
    rates = [batch.tokens_per_s for batch in batches if batch.num_sequences == num_sequences]
    return LevelRate(num_sequences, statistics.median(rates), rates)


if __name__ == "__main__":
    app()
