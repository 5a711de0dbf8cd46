"""Owns how much may wait at once, for one newcomer. Knows no times and no priorities."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.queued import Backlog


@dataclass(frozen=True, slots=True)
class WaitingLimits:
    """max_waiting: requests. max_waiting_tokens: their prompts and longest outputs; None means no bound."""

    max_waiting: int
    max_waiting_tokens: int | None = None

    def are_exceeded_by(self, backlog: Backlog) -> bool:
        """Whether more waits than may. One request alone may always wait, however large."""
        return backlog.num_waiting > self.max_waiting or self._has_too_many_tokens(backlog)

    def _has_too_many_tokens(self, backlog: Backlog) -> bool:
        limit = self.max_waiting_tokens
        return limit is not None and backlog.num_tokens > limit and backlog.num_waiting > 1

    def less(self, num_kept: int) -> WaitingLimits:
        """What is left when so many places are kept for others, and as large a share of the tokens; at least 1."""
        if num_kept <= 0:
            return self
        most, num_tokens = max(1, self.max_waiting - num_kept), self.max_waiting_tokens
        if num_tokens is not None:
            num_tokens = max(1, num_tokens * most // self.max_waiting)
        return WaitingLimits(most, num_tokens)

    def at_least(self, backlog: Backlog) -> WaitingLimits:
        """Limits that so much does not exceed."""
        num_tokens = self.max_waiting_tokens
        if num_tokens is not None:
            num_tokens = max(num_tokens, backlog.num_tokens)
        return WaitingLimits(max(self.max_waiting, backlog.num_waiting), num_tokens)
