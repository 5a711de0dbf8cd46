"""Owns how much work may be wasted on preemption. Knows nothing of sequences, blocks or clocks; counts in tokens."""

from __future__ import annotations

#: Wasted work, as a share of useful work, that is always affordable in the long run.
SHARE = 0.05
#: What may be wasted at once, in tokens of prefill, before useful work has paid for it.
BURST_TOKENS = 1024.0


class ChurnBudget:
    """Useful work pays for preemptions, so that however requests arrive, most of the work is useful.

    Each token computed for the first time earns `SHARE` tokens, up to `BURST_TOKENS`; each preemption spends what it
    will waste, as so many tokens of prefill, and what turns out not to be wasted is given back. A newcomer may preempt
    only what can be afforded, or anything while the budget is full. A preemption for want of blocks cannot be put off,
    so it may overdraw the budget; until that is paid back, nothing is admitted whose longest answer, and those of all
    who run, are not sure of their blocks, so that no more of the kind can follow. Only a newcomer that outranks
    somebody who runs is let in, where blocks are free: it does not wait for work that would give way to it.

    Of U useful tokens the wasted ones are thus at most
    `SHARE * U + BURST_TOKENS` + the cost of one newcomer's victims + once the cost of all who run, while nobody is let
    in so.
    """

    def __init__(self) -> None:
        self._tokens = BURST_TOKENS
        self.is_full = True

    @property
    def is_overdrawn(self) -> bool:
        return self._tokens < 0

    def can_afford(self, num_tokens: float) -> bool:
        """Whether so much may be wasted for a newcomer."""
        return self._tokens >= min(num_tokens, BURST_TOKENS)

    def earn(self, num_tokens: int) -> None:
        """So many tokens were computed for the first time."""
        self._tokens = min(BURST_TOKENS, self._tokens + SHARE * num_tokens)
        self.is_full = self._tokens == BURST_TOKENS

    def earn_singly(self, num_tokens: int) -> None:
        """So many tokens were computed for the first time, one after another: added up in that order, to the bit."""
        for _ in range(num_tokens):
            if self.is_full:
                return
            self.earn(1)

    def give_back(self, num_tokens: float) -> None:
        """So much was spent on what was not wasted after all."""
        self._tokens = min(BURST_TOKENS, self._tokens + num_tokens)
        self.is_full = self._tokens == BURST_TOKENS

    def spend(self, num_tokens: float) -> None:
        """So much is wasted."""
        self._tokens -= num_tokens
        self.is_full = self._tokens == BURST_TOKENS
