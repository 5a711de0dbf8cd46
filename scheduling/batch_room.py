"""Owns room in the batch: for the next token of each decode, and for newcomers. Knows no token budget and no clock.

How a preempted sequence loses its blocks, and what it may cost, stands in `scheduling.preemption`; here stands who it
is.
"""

from __future__ import annotations

from scheduling.batch_order import BatchOrder
from scheduling.batch_plan import BatchLimits, Plan
from scheduling.block_account import BlockAccount
from scheduling.kv_blocks import PrefixMatch
from scheduling.preemption import Preempter
from scheduling.sequence import Sequence, SequenceStatus

_NO_MATCH = PrefixMatch()


class BatchRoom:
    """Takes slots and blocks from the last in order for those before them.

    holds_displaced: whether those who give way to newcomers wait for whoever grants places to resume them.
    """

    def __init__(self, limits: BatchLimits, pool: BlockAccount, order: BatchOrder, preempter: Preempter) -> None:
        self.holds_displaced = False
        self._limits = limits
        self._pool = pool
        self._order = order
        self._preempter = preempter
        self._block_size = pool.block_size

    def reserve_decodes(self, plan: Plan) -> set[str]:
        """Give every decode the block that its next token may need; the last in order give way when blocks run out.
        Returns who got one."""
        extended = set()
        for sequence in [each for each in self._order.running if len(each.token_ids) > each.num_room]:
            if sequence.status is SequenceStatus.RUNNING and self._extend(sequence, plan):
                extended.add(sequence.seq_id)
        return extended

    def _extend(self, sequence: Sequence, plan: Plan) -> bool:
        """The last in order gives way, by key and then by arrival; the sequence itself where nobody comes after it,
        and then the answer is false.

        Whoever comes first of all never gives way here, so that somebody always gets on.
        """
        while not self._pool.extend(sequence.seq_id, len(sequence.token_ids)):
            assert self._limits.preemption != "off", f"{sequence.seq_id}: its longest answer was sure of its blocks"
            last = self._order.running[-1]
            self._park(last, plan)
            if last is sequence:
                return False
        sequence.num_room = self._pool.num_held(sequence.seq_id) * self._block_size
        return True

    def admit(self, plan: Plan, extended: set[str]) -> None:
        """Start waiting sequences, best first, up to the first that finds no room and cannot make any, or has just
        given way itself."""
        waiting, running = self._order.waiting, self._order.running
        while waiting and (head := waiting[0]) not in plan.preempted:
            if len(running) >= self._limits.max_num_seqs and not self._outranked_by(head):
                return
            match = self._match(head)
            if not self._has_room(head, match, extended):
                for victim in self._victims_of(head, match, extended):
                    self._park(victim, plan, to_newcomer=True)
                if not self._has_room(head, match, extended):
                    return
            self._preempter.start(head, match, plan.copies)
            self._order.start(head)

    def _match(self, sequence: Sequence) -> PrefixMatch:
        return self._pool.match_prefix(sequence.token_ids, sequence.salt) if sequence.reuse_prefix else _NO_MATCH

    def _has_room(
        self, sequence: Sequence, match: PrefixMatch, extended: set[str], given_up: list[Sequence] | None = None
    ) -> bool:
        """Whether there are a slot and blocks, if `given_up` stopped running."""
        staying = [each for each in self._order.running if each not in given_up] if given_up else self._order.running
        if len(staying) >= self._limits.max_num_seqs:
            return False
        if self._is_strict_for(sequence):
            num_tokens = sequence.max_num_tokens
            headroom = sum(self._num_to_come(other) for other in staying)
        else:
            # What is admitted now should not be preempted a step later: a block for each that has not just got one.
            num_tokens = len(sequence.token_ids)
            headroom = sum(other.seq_id not in extended for other in staying)
        owners = [other.seq_id for other in given_up or []]
        return self._pool.num_lacking(num_tokens, match, headroom, owners) == 0

    def _is_strict_for(self, newcomer: Sequence) -> bool:
        """Whether every longest answer must be sure of its blocks. A newcomer that others would give way to does not
        wait for theirs."""
        if self._limits.preemption == "off":
            return True
        return self._preempter.budget.is_overdrawn and next(self._order.outranked_by(newcomer), None) is None

    def _num_to_come(self, sequence: Sequence) -> int:
        """Blocks that a running sequence may come to hold beside those that it has."""
        return self._pool.num_blocks_for(sequence.max_num_tokens) - self._pool.num_held(sequence.seq_id)

    def _outranked_by(self, newcomer: Sequence) -> list[Sequence]:
        """The running sequences that would give way to it, worst first."""
        if self._limits.preemption == "off":
            return []
        return [other for other in self._order.outranked_by(newcomer) if self._preempter.may_give_way(other)]

    def _victims_of(self, newcomer: Sequence, match: PrefixMatch, extended: set[str]) -> list[Sequence]:
        """The fewest running sequences, worst first, that must give way; none if even all it outranks are too few, or
        if that would waste more than there is budget for."""
        outranked = self._outranked_by(newcomer)
        for count in range(1, min(len(outranked), self._limits.parked_limit - self._order.num_parked) + 1):
            if self._has_room(newcomer, match, extended, outranked[:count]):
                return outranked[:count] if self._preempter.can_afford(outranked[:count]) else []
        return []

    def _park(self, sequence: Sequence, plan: Plan, *, to_newcomer: bool = False) -> None:
        self._preempter.park(sequence, plan.copies)
        holds = to_newcomer and self.holds_displaced
        self._order.park(sequence, holds=holds)
        plan.preempted.append(sequence)
        if holds:
            plan.held.append(sequence)
