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

    @property
    def num_to_come(self) -> int:
        return self.end - len(self.sequence.token_ids)

    @property
    def decodes(self) -> bool:
        """Whether its next step is a decode, and not its first step of all."""
        is_running = self.has_begun and self.sequence.status is SequenceStatus.RUNNING
        return is_running and self.sequence.num_pending == 1
