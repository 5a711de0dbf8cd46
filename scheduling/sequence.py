"""Owns what one engine knows of one sequence: tokens, place, status. Knows nothing of sampling or of blocks."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from scheduling.score import Stamp


class SequenceStatus(enum.Enum):
    WAITING = "waiting"  # never ran
    RUNNING = "running"  # holds a slot and blocks
    PARKED = "parked"  # was preempted: holds no blocks, keeps its place
    FINISHED = "finished"


_LEGAL_MOVES = {
    SequenceStatus.WAITING: {SequenceStatus.RUNNING, SequenceStatus.FINISHED},
    SequenceStatus.RUNNING: {SequenceStatus.PARKED, SequenceStatus.FINISHED},
    SequenceStatus.PARKED: {SequenceStatus.RUNNING, SequenceStatus.FINISHED},
    SequenceStatus.FINISHED: set(),
}


class IllegalMove(RuntimeError):
    """A sequence was asked to take a step that its status does not allow: a fault of ours, not of a caller."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One sequence in one engine.

    token_ids: prompt and output so far. max_num_tokens: prompt and the longest output that it may have.
    num_computed: leading tokens whose KV is in the cache; 0 while it is parked.
    num_room: tokens that its blocks can hold.
    num_reached: `num_computed` when it was last parked; 0 if it never was.
    num_at_level: tokens computed when it came to its level, where the policy has levels.
    num_cached: prompt tokens that the first admission found in the cache.
    reuse_prefix: whether it may start from cached blocks.
    wants_prompt_logits: every prompt token's logits are asked for, so none may come from cached blocks either.
    is_suspect: an engine may have died of computing it; until it has a token here, no other suspect is computed in the
    same step.
    """

    seq_id: str
    stamp: Stamp
    token_ids: list[int]
    num_prompt_tokens: int
    max_num_tokens: int
    salt: str = ""
    reuse_prefix: bool = True
    wants_prompt_logits: bool = False
    is_suspect: bool = False
    status: SequenceStatus = SequenceStatus.WAITING
    num_computed: int = 0
    num_cached: int | None = None
    num_room: int = 0
    num_reached: int = 0
    num_at_level: int = 0

    @property
    def num_pending(self) -> int:
        """Tokens whose KV is still to be computed; at least 1 while the sequence is not finished."""
        return len(self.token_ids) - self.num_computed

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_served(self) -> int:
        """Tokens that were computed for it here, each counted once; what it found in the cache cost nothing."""
        return max(0, max(self.num_computed, self.num_reached) - (self.num_cached or 0))

    def move_to(self, status: SequenceStatus) -> None:
        """Raises IllegalMove unless the status may follow the present one."""
        if status not in _LEGAL_MOVES[self.status]:
            raise IllegalMove(f"{self.seq_id}: {self.status.value} cannot become {status.value}")
        self.status = status
