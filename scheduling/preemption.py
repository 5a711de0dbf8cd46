"""Owns how a sequence gives its blocks up and has them back: by swap or by recompute. Knows no order and no limits.

By swap its blocks are copied to the swap area, and back when it runs again. By recompute it comes back with prompt and
output as its new prefill. Either way what is still cached when it comes back is neither copied nor computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scheduling.batch_plan import Preemption
from scheduling.block_account import BlockAccount
from scheduling.churn_budget import ChurnBudget
from scheduling.cost_model import EngineCosts
from scheduling.kv_blocks import PrefixMatch
from scheduling.sequence import Sequence
from scheduling.swap_area import BlockCopies

#: Tokens that a sequence which was preempted computes beyond where it was before a newcomer may preempt it again.
MIN_PROGRESS_TOKENS = 32


@dataclass(slots=True)
class PreemptionCounts:
    """Since the start. num_recomputed_tokens: tokens whose KV had been there and was lost; counted on resumption."""

    num_by_swap: int = 0
    num_by_recompute: int = 0
    num_recomputed_tokens: int = 0
    num_blocks_out: int = 0
    num_blocks_in: int = 0


@dataclass(frozen=True, slots=True)
class Loss:
    """What preempting a sequence would cost. recompute_tokens: the tokens that would have to be computed again.

    num_blocks: what a swap would copy, each way. Blocks that others hold too will still be there for a recompute. The
    sequence's own are taken for lost where the pool is short of blocks, and for cached where it was short of slots.
    """

    recompute_tokens: int
    num_blocks: int

    def by_swap_is_cheaper(self, costs: EngineCosts) -> bool:
        return costs.swap_s(self.num_blocks) < costs.recompute_s(self.recompute_tokens)


class Preempter:
    """Parks and resumes sequences, and keeps the account of what that wastes."""

    def __init__(self, preemption: Preemption, pool: BlockAccount) -> None:
        self.costs = EngineCosts()
        self.counts = PreemptionCounts()
        self.budget = ChurnBudget()
        self._preemption = preemption
        self._pool = pool
        self._charged: dict[str, float] = {}  # by who is parked: what that was taken to waste

    def may_give_way(self, sequence: Sequence) -> bool:
        """Whether a newcomer may preempt it: not again before it has got on."""
        return not sequence.num_reached or sequence.num_computed >= sequence.num_reached + MIN_PROGRESS_TOKENS

    def can_afford(self, victims: Iterable[Sequence]) -> bool:
        """Whether the budget has what preempting all of them wastes."""
        return self.budget.can_afford(sum(self._waste(victim) for victim in victims))

    def park(self, sequence: Sequence, copies: BlockCopies) -> None:
        """Takes the blocks of a running sequence away."""
        self._charged[sequence.seq_id] = waste = self._waste(sequence)
        self.budget.spend(waste)
        if self._will_swap(sequence):
            self._swap_out(sequence, copies)
        else:
            self.counts.num_by_recompute += 1
        self._pool.free(sequence.seq_id)
        sequence.num_reached = sequence.num_computed
        sequence.num_computed = sequence.num_room = 0

    def start(self, sequence: Sequence, match: PrefixMatch, copies: BlockCopies) -> None:
        """Gives a waiting or parked sequence its blocks; there must be room. What is swapped out comes back."""
        allocated = self._pool.allocate(sequence.seq_id, len(sequence.token_ids), match, sequence.salt)
        assert allocated, f"{sequence.seq_id} does not fit in the room that it was promised"
        num_matched = len(match.block_ids)
        sequence.num_room = self._pool.num_held(sequence.seq_id) * self._pool.block_size
        sequence.num_computed = num_matched * self._pool.block_size
        is_swapped = self._pool.swap.holds(sequence.seq_id)
        if is_swapped:
            self._swap_in(sequence, num_matched, copies)
        num_recomputed = max(0, sequence.num_reached - sequence.num_computed)
        self.counts.num_recomputed_tokens += num_recomputed
        self._settle(sequence, is_swapped=is_swapped, num_recomputed=num_recomputed)
        if sequence.num_cached is None:
            sequence.num_cached = sequence.num_computed

    def drop(self, sequence: Sequence) -> None:
        """A parked sequence will not come back."""
        self._charged.pop(sequence.seq_id, None)
        self._pool.swap.drop(sequence.seq_id)

    def _settle(self, sequence: Sequence, *, is_swapped: bool, num_recomputed: int) -> None:
        """Gives back what was charged for blocks that turn out to be cached still."""
        charged = self._charged.pop(sequence.seq_id, 0.0)
        if not is_swapped:
            self.budget.give_back(max(0.0, charged - num_recomputed))

    def _swap_out(self, sequence: Sequence, copies: BlockCopies) -> None:
        block_ids = self._pool.block_table(sequence.seq_id)[: self._pool.num_blocks_for(sequence.num_computed)]
        copies.outward.extend(self._pool.swap.put(sequence.seq_id, block_ids))
        self.counts.num_by_swap += 1
        self.counts.num_blocks_out += len(block_ids)

    def _swap_in(self, sequence: Sequence, num_matched: int, copies: BlockCopies) -> None:
        """The blocks after those that were matched; the last may be a part."""
        inward = self._pool.swap.take(sequence.seq_id, self._pool.block_table(sequence.seq_id), num_matched)
        copies.inward.extend(inward)
        self.counts.num_blocks_in += len(inward)
        sequence.num_computed = max(sequence.num_computed, sequence.num_reached)

    def _loss(self, sequence: Sequence) -> Loss:
        num_kept = 0
        if sequence.reuse_prefix and self._pool.is_half_free:
            num_kept = sequence.num_computed // self._pool.block_size
        elif sequence.reuse_prefix:
            num_kept = self._pool.num_shared(sequence.seq_id)
        num_lost = sequence.num_computed - num_kept * self._pool.block_size
        return Loss(max(0, num_lost), self._pool.num_blocks_for(sequence.num_computed))

    def _will_swap(self, sequence: Sequence) -> bool:
        if self._preemption not in ("auto", "swap") or sequence.num_computed == 0:
            return False
        loss = self._loss(sequence)
        if loss.num_blocks > self._pool.swap.num_free:
            return False
        return self._preemption == "swap" or loss.by_swap_is_cheaper(self.costs)

    def _waste(self, sequence: Sequence) -> float:
        """Of preempting it, in tokens of prefill."""
        loss = self._loss(sequence)
        if self._will_swap(sequence):
            return self.costs.swap_s(loss.num_blocks) / self.costs.prefill_token_s
        return loss.recompute_tokens
