"""Owns what a simulated engine is told, and what it tells of a step. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from scheduling.score import ScorePolicy, Stamp


@dataclass(frozen=True, slots=True)
class Work:
    """A request as the engine gets it: it ends after `num_output_tokens`, and may have `max_output_tokens`.

    num_done: output tokens that it has from another replica.
    """

    lease_id: str
    stamp: Stamp
    policy: ScorePolicy
    num_prompt_tokens: int
    num_output_tokens: int
    max_output_tokens: int
    num_done: int = 0


@dataclass(frozen=True, slots=True)
class Resume:
    """Who was held may go on, under this stamp."""

    lease_id: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Move:
    """Another replica takes over who was held."""

    lease_id: str


class Gone(NamedTuple):
    """A sequence that has left. num_output_tokens: in all so far. num_served: computed for it here."""

    lease_id: str
    num_output_tokens: int
    num_served: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step gave, by lease: whose first token it was, and whose last.

    preempted: who gave way before it. held: those of them who wait for `Resume` or `Move`. moved: who left for another
    replica. fallen: whose level has changed, under policies that have levels.
    """

    begun: list[str] = field(default_factory=list)
    ended: list[Gone] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    moved: list[Gone] = field(default_factory=list)
    fallen: list[tuple[str, int]] = field(default_factory=list)


Command = Work | Resume | Move
