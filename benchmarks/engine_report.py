"""Owns what the engine benchmark's results file says. Measures nothing."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass

from fastserve.machine import Machine, provenance


@dataclass(frozen=True, slots=True)
class LevelRate:
    """One number of sequences over all rounds: the median round, and every round."""

    num_sequences: int
    tokens_per_s: float
    tokens_per_s_by_round: list[float]


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One run. Rates of output tokens count the prefill's time too."""

    date: str
    command: str
    commit: str
    machine: Machine
    num_prompt_tokens: int
    num_output_tokens: int
    num_rounds: int
    levels: list[LevelRate]
    prefill_tokens: int
    prefill_tokens_per_s: float

    def to_json(self) -> str:
        return json.dumps({"benchmark": "engine", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        rows = [
            f"| {level.num_sequences} | {level.tokens_per_s:.1f} "
            f"({min(level.tokens_per_s_by_round):.1f} to {max(level.tokens_per_s_by_round):.1f}) |"
            for level in self.levels
        ]
        lines = [
            f"# Engine benchmark, {self.date}",
            "",
            f"The engine's own loop on one rank, without Ray or HTTP: {self.num_prompt_tokens} prompt tokens and "
            f"{self.num_output_tokens} output tokens each, greedy, `ignore_eos`, no cached prefixes; {self.num_rounds} "
            "rounds, every other one backwards. The median round, with the lowest and the highest.",
            "",
            "| sequences | output tokens/s |",
            "| ---: | ---: |",
            *rows,
            "",
            f"Prefill of one prompt of {self.prefill_tokens} tokens: {self.prefill_tokens_per_s:.0f} tokens/s.",
            "",
            *provenance(self.command, self.commit, self.machine),
        ]
        return "\n".join(lines) + "\n"


def public_command(module: str) -> str:
    """The command of this process, as it may be published."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])
