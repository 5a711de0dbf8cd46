"""Owns which sequences of a batch decode, over how much context, and who of them ends next. Plans nothing.

All of them get a token in each round, or none does: so ends and context need no look at each.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

#: A place in the batch; the smaller comes first.
Rank = tuple[float, int]


@dataclass(slots=True)
class Decoding:
    """num_context_tokens: those that the next round attends to."""

    num_context_tokens: int = 0
    _num_rounds: int = 0
    _context_less_rounds: dict[str, int] = field(default_factory=dict)  # by lease, of who is there
    _ends: list[tuple[int, Rank, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._context_less_rounds)

    def join(self, lease_id: str, rank: Rank, num_tokens: int, num_to_come: int) -> None:
        """A sequence of so many tokens, all but the last in the cache; it ends in that many rounds."""
        heapq.heappush(self._ends, (self._num_rounds + num_to_come, rank, lease_id))
        self._context_less_rounds[lease_id] = num_tokens - 1 - self._num_rounds
        self.num_context_tokens += num_tokens - 1

    def go_on(self, num_rounds: int) -> list[str]:
        """So many rounds, in the last of which those returned have ended, by rank."""
        self._num_rounds += num_rounds
        self.num_context_tokens += num_rounds * len(self)
        ended = []
        while self._ends and self._ends[0][0] <= self._num_rounds:
            _, _, lease_id = heapq.heappop(self._ends)
            self.num_context_tokens -= self._context_less_rounds.pop(lease_id) + self._num_rounds
            ended.append(lease_id)
        return ended

    def num_rounds_left(self) -> int:
        """Until the first of them ends; there must be one."""
        return self._ends[0][0] - self._num_rounds

    def clear(self) -> None:
        """Nobody decodes any more."""
        self._ends.clear()
        self._context_less_rounds.clear()
        self.num_context_tokens = 0
