"""Owns what a simulated replica knows of one answer: its sequence, and where it ends. Knows no batch and no time."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.sequence import Sequence, SequenceStatus
from simulation.decoding import Rank


@dataclass(slots=True)
class Answer:
    """end: tokens of prompt and answer. has_begun: its first token has come."""

    sequence: Sequence
    rank: Rank
    end: int
    has_begun: bool = False
    num_prompt_counted: int = 0

    def newly_computed_of_prompt(self) -> int:
        """Tokens of the prompt that were computed since this was asked last, each once."""
        num_reached = min(self.sequence.num_computed, self.sequence.num_prompt_tokens)
        num_new = max(0, num_reached - self.num_prompt_counted)
        self.num_prompt_counted += num_new
        return num_new

    @property
    def num_to_come(self) -> int:
        return self.end - len(self.sequence.token_ids)

    @property
    def decodes(self) -> bool:
        """Whether its next step is a decode, and not its first step of all."""
        is_running = self.has_begun and self.sequence.status is SequenceStatus.RUNNING
        return is_running and self.sequence.num_pending == 1
