"""Owns what a replica has done so far. Judges nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Activity:
    """What a replica has done. busy_s: in steps; slot_s: the same for each sequence in the batch.

    num_served: tokens of prompts, as they were computed, and of answers.
    """

    busy_s: float = 0.0
    slot_s: float = 0.0
    num_steps: int = 0
    num_served: int = 0

    def add(self, other: Activity) -> None:
        self.busy_s += other.busy_s
        self.slot_s += other.slot_s
        self.num_steps += other.num_steps
        self.num_served += other.num_served
