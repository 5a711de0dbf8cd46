"""`python -m benchmarks.latency`: what streams feel of each other in one engine, without Ray or HTTP.

Three figures: the gaps of running streams while a long prompt is computed, the time to an urgent request's first token
in a full batch, and what the second turn of a chat computes of its prompt.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.engine_report import public_command
from benchmarks.report import RESULTS, write_report
from benchmarks.summary import percentile
from engine.backends.deepspeed import DeepSpeedEngine, load_rank
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, SamplingParams, StepMessage
from fastserve.machine import Machine, commit, provenance, this_machine
from fastserve.ports import LOOPBACK, free_port
from scheduling.score import ScorePolicy, Stamp

_MAX_NUM_SEQS = 32
_PROMPT_TOKENS = 64
_URGENT = 10.0
_ENDLESS = 4_000  # tokens: longer than any measurement

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """One run; times in milliseconds."""

    date: str
    command: str
    commit: str
    machine: Machine
    num_streams: int
    long_prompt_tokens: int
    usual_itl_p99_ms: float
    itl_p99_beside_long_prompt_ms: float
    long_prompt_ttft_ms: float
    idle_ttft_p95_ms: float
    full_batch_step_p50_ms: float
    urgent_ttft_p95_ms: float
    second_turn_prompt_tokens: int
    second_turn_new_tokens: int
    second_turn_computed_tokens: int

    def to_json(self) -> str:
        return json.dumps({"benchmark": "latency", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        stretch = self.itl_p99_beside_long_prompt_ms / self.usual_itl_p99_ms
        steps = (self.urgent_ttft_p95_ms - self.idle_ttft_p95_ms) / self.full_batch_step_p50_ms
        lines = [
            f"# Latency benchmark, {self.date}",
            "",
            "The engine's own loop on one rank, without Ray or HTTP, the embedded model in bf16.",
            "",
            "| measure | value |",
            "| --- | ---: |",
            f"| ITL p99 of {self.num_streams} streams, usual | {self.usual_itl_p99_ms:.1f} ms |",
            f"| ITL p99 of {self.num_streams} streams while a prompt of {self.long_prompt_tokens} tokens is computed | "
            f"{self.itl_p99_beside_long_prompt_ms:.1f} ms, {stretch:.2f} times |",
            f"| TTFT of that prompt | {self.long_prompt_ttft_ms:.0f} ms |",
            f"| TTFT p95 of a request of {_PROMPT_TOKENS} prompt tokens, idle | {self.idle_ttft_p95_ms:.1f} ms |",
            f"| a step of the full batch ({_MAX_NUM_SEQS} sequences), median | {self.full_batch_step_p50_ms:.1f} ms |",
            f"| TTFT p95 of such a request, urgent, into the full batch | {self.urgent_ttft_p95_ms:.1f} ms, "
            f"the idle one and {steps:.2f} steps |",
            f"| second turn of a chat: of {self.second_turn_prompt_tokens} prompt tokens, "
            f"{self.second_turn_new_tokens} new | {self.second_turn_computed_tokens} computed |",
            "",
            *provenance(self.command, self.commit, self.machine),
        ]
        return "\n".join(lines) + "\n"


class Player:
    """Drives a loop and says when things happened."""

    def __init__(self, loop: EngineLoop, seed: int = 0) -> None:
        self._loop = loop
        self._rng = random.Random(seed)
        self._num_added = 0

    def prompt(self, num_tokens: int) -> list[int]:
        return self._rng.choices(range(100, 40_000), k=num_tokens)

    def add(self, prompt: list[int], max_tokens: int, priority: float = 0.0) -> str:
        """Hands a request in; returns its lease id."""
        self._num_added += 1
        sampling = SamplingParams(max_tokens=max_tokens, seed=0, temperature=0.0, ignore_eos=True)
        stamp = Stamp(priority, time.perf_counter())
        request = EngineRequest(str(self._num_added), prompt, sampling, stamp, ScorePolicy())
        self._loop.apply(CommandMessage([request]))
        return request.lease_id

    def drop(self, *lease_ids: str) -> None:
        """Cancels, and lets what is left say so."""
        self._loop.apply(CommandMessage(cancelled=list(lease_ids)))
        self._loop.step()

    def steps(self) -> Iterator[tuple[float, StepMessage]]:
        """One step after the other, each with the seconds that it took."""
        while True:
            started_s = time.perf_counter()
            message = self._loop.step()
            yield time.perf_counter() - started_s, message

    def gaps_s(self, num_steps: int) -> list[float]:
        return [took_s for (took_s, _), _ in zip(self.steps(), range(num_steps), strict=False)]

    def until_first_token(self, lease_id: str) -> tuple[list[float], StepMessage]:
        """The seconds of each step up to the sequence's first token, and the message that brought it."""
        gaps_s = []
        for took_s, message in self.steps():
            gaps_s.append(took_s)
            if any(output.lease_id == lease_id for output in message.outputs):
                return gaps_s, message
        raise AssertionError("steps never end")

    def streams(self, number: int) -> list[str]:
        """So many running streams, all prefilled."""
        leases = [self.add(self.prompt(_PROMPT_TOKENS), _ENDLESS) for _ in range(number)]
        self.until_first_token(leases[-1])
        return leases


@app.command()
def main(
    streams: Annotated[int, typer.Option(min=1, max=_MAX_NUM_SEQS - 1)] = 8,
    long_prompt: Annotated[int, typer.Option(min=64, max=6000, help="Tokens.")] = 4000,
    samples: Annotated[int, typer.Option(min=1, max=1000, help="Urgent requests, and idle ones.")] = 40,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS,
) -> None:
    """Measure what a long prompt and an urgent request mean to streams that run, and the other way round."""
    config = EngineConfig("bench", "embedded:SmolLM2-135M-Instruct", max_num_seqs=_MAX_NUM_SEQS, kv_cache_tokens=80_000)
    player = Player(EngineLoop(DeepSpeedEngine(load_rank(config, 0, LOOPBACK, free_port())), config))
    player.drop(*player.streams(2))
    report = measure(player, streams, long_prompt, samples)
    Console().print(report.to_markdown(), markup=False, highlight=False, soft_wrap=True)
    write_report(report, results, "latency")


def measure(player: Player, num_streams: int, long_prompt: int, num_samples: int) -> LatencyReport:
    """All figures, one after the other."""
    running = player.streams(num_streams)
    usual = player.gaps_s(300)
    long = player.add(player.prompt(long_prompt), 4)
    beside, _ = player.until_first_token(long)
    player.drop(long, *running)
    idle = [_ttft_s(player, priority=0.0) for _ in range(num_samples)]
    full = player.streams(_MAX_NUM_SEQS)
    full_steps = player.gaps_s(50)
    urgent = [_urgent_ttft_s(player, share=(index + 0.5) / num_samples) for index in range(num_samples)]
    player.drop(*full)
    first_turn, new = player.prompt(300), player.prompt(40)
    turn = player.add(first_turn, _ENDLESS)
    player.until_first_token(turn)
    player.drop(turn)
    second = player.add(first_turn + new, 4)
    _, message = player.until_first_token(second)
    cached = next(output.num_cached_tokens for output in message.outputs if output.lease_id == second)
    player.drop(second)
    return LatencyReport(
        date=datetime.now(UTC).date().isoformat(),
        command=public_command("benchmarks.latency"),
        commit=commit(),
        machine=this_machine(),
        num_streams=num_streams,
        long_prompt_tokens=long_prompt,
        usual_itl_p99_ms=_ms(usual, 99),
        itl_p99_beside_long_prompt_ms=_ms(beside, 99),
        long_prompt_ttft_ms=sum(beside) * 1000,
        idle_ttft_p95_ms=_ms(idle, 95),
        full_batch_step_p50_ms=_ms(full_steps, 50),
        urgent_ttft_p95_ms=_ms(urgent, 95),
        second_turn_prompt_tokens=len(first_turn) + len(new),
        second_turn_new_tokens=len(new),
        second_turn_computed_tokens=len(first_turn) + len(new) - cached,
    )


def _ttft_s(player: Player, priority: float) -> float:
    lease_id = player.add(player.prompt(_PROMPT_TOKENS), 2, priority)
    gaps_s, _ = player.until_first_token(lease_id)
    player.drop(lease_id)
    return sum(gaps_s)


def _urgent_ttft_s(player: Player, share: float) -> float:
    """It arrives when this share of a step of the full batch has passed, and waits for the rest of that step."""
    rest_s = (1 - share) * player.gaps_s(1)[0]
    taken_s = rest_s + _ttft_s(player, _URGENT)
    player.gaps_s(8)  # whoever gave way is back
    return taken_s


def _ms(values_s: list[float], percent: float) -> float:
    found = percentile(values_s, percent)
    assert found is not None, "something was measured"
    return found * 1000


if __name__ == "__main__":
    app()
