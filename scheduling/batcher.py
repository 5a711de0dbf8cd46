"""Owns one iteration's plan: who decodes, who prefills, who gives way. Knows nothing of models, sampling or clocks.

The best keys go first, everywhere. Who gives way stands in `scheduling.batch_room`, who gets how much of a step in
`scheduling.token_share`.
"""

from __future__ import annotations

from scheduling.batch_order import BatchOrder
from scheduling.batch_plan import BatchLimits, Plan, Slice
from scheduling.batch_room import BatchRoom
from scheduling.block_account import BlockAccount
from scheduling.cost_model import EngineCosts
from scheduling.errors import NeverFits
from scheduling.preemption import Preempter, PreemptionCounts
from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import Sequence, SequenceStatus
from scheduling.steady_decodes import SteadyDecodes
from scheduling.token_share import TokenShare

__all__ = ["BatchLimits", "Batcher", "Plan", "Slice"]


class Batcher:
    """Holds one engine's sequences and plans each step under `limits`.

    The order is by key, the earlier added first where keys are equal. A head that does not fit keeps its room: nothing
    bypasses it. A prompt gets all its blocks when it is admitted, so only decodes can run out of blocks; with
    preemption off, and while too much has been wasted (`ChurnBudget`), nobody is admitted unless all longest answers
    are sure of theirs, so that not even decodes can.
    """

    def __init__(self, limits: BatchLimits, pool: BlockAccount) -> None:
        self._limits = limits
        self._pool = pool
        self._order = BatchOrder(limits.preemption_margin_levels)
        self._share = TokenShare(limits)
        self._preempter = Preempter(limits.preemption, pool)
        self._room = BatchRoom(limits, pool, self._order, self._preempter)
        self._budget = self._preempter.budget
        self._steady = SteadyDecodes(limits, pool, self._budget)
        self._waiting_is_stuck = False  # since the last plan nobody has come or gone
        self._block_size = pool.block_size

    @property
    def preemptions(self) -> PreemptionCounts:
        return self._preempter.counts

    @property
    def num_running(self) -> int:
        return len(self._order.running)

    @property
    def num_parked(self) -> int:
        return self._order.num_parked

    @property
    def num_waiting(self) -> int:
        return self._order.num_waiting

    @property
    def has_work(self) -> bool:
        """Whether anybody runs, or may start."""
        return bool(self._order.running or self._order.waiting)

    def __contains__(self, seq_id: str) -> bool:
        return seq_id in self._order

    def __len__(self) -> int:
        return len(self._order)

    def set_policy(self, policy: ScorePolicy) -> None:
        """Order everything by this policy, unless the present one has the same or a later epoch."""
        if self._order.set_policy(policy):
            self._waiting_is_stuck = False

    def hold_displaced(self, holds: bool) -> None:
        """Whether those who give way to newcomers wait for `resume`: whoever grants places decides what comes next.

        Without that they go on as soon as they are next here; those held now do too.
        """
        self._room.holds_displaced = holds
        if not holds:
            self._waiting_is_stuck = False
            self._order.resume_all()

    def resume(self, seq_id: str, stamp: Stamp | None = None) -> None:
        """One that was held may go on, under this stamp if one is given; an id that is not held is fine."""
        self._waiting_is_stuck = False
        self._order.resume(seq_id, stamp)

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence wait for its place. The policy must have been set.

        Raises:
            NeverFits: prompt and longest answer need more blocks than the pool has.
        """
        if self._pool.num_blocks_for(sequence.max_num_tokens) > self._pool.num_blocks:
            raise NeverFits(sequence.max_num_tokens, self._pool.num_blocks * self._pool.block_size)
        self._waiting_is_stuck = False
        self._order.add(sequence)

    def finish(self, seq_id: str, *, forget_blocks: bool = False) -> Sequence:
        """Take a sequence out, at whatever point, and its blocks with it."""
        sequence = self._order.get(seq_id)
        self._waiting_is_stuck = False
        if sequence.status is SequenceStatus.RUNNING:
            self._pool.free(seq_id, forget=forget_blocks)
        else:
            self._preempter.drop(sequence)
        self._order.remove(sequence)
        return sequence

    def plan(self, costs: EngineCosts | None = None) -> Plan:
        """Decide the next step: make room for the decodes, then admit, then share out the token budget.

        costs: what preemption costs by the latest measurement; None leaves them as they were.
        """
        self._pool.swap.settle()
        self._preempter.costs = costs or self._preempter.costs
        plan = Plan()
        extended = self._room.reserve_decodes(plan)
        if self._order.waiting:
            self._room.admit(plan, extended)
        self._waiting_is_stuck = not plan.preempted
        self._share.out(plan, self._order.running, self._preempter.costs, self._order.outranks)
        return plan

    def record(self, part: Slice, token_id: int | None = None) -> None:
        """A step has computed this slice, and chosen `token_id` if it completed its sequence."""
        sequence, start, num_tokens, _ = part
        sequence.num_computed = num_computed = start + num_tokens
        if num_computed // self._block_size > start // self._block_size:
            self._pool.record(sequence.seq_id, sequence.token_ids, num_computed)
        if not self._budget.is_full:
            self._budget.earn(min(num_tokens, max(0, num_computed - sequence.num_reached)))
        if token_id is not None:
            sequence.token_ids.append(token_id)
        if self._order.has_levels:
            self._order.note_service(sequence)

    def take_fallen(self) -> list[Sequence]:
        """Those whose level has changed since the last call."""
        return self._order.take_fallen()

    def record_decodes(self, parts: list[Slice], token_id: int) -> None:
        """What `record` does, for decodes that have all chosen the same."""
        if self._order.has_levels:
            for part in parts:
                self.record(part, token_id)
        else:
            self._steady.record([part.sequence for part in parts], 1, token_id)

    # Many steps at once

    def num_steady_steps(self, most: int) -> int:
        """How many of the next steps, at most `most`, would decode all who run and do nothing else, if nobody is added
        or finished; 0 where that is not sure. What waits is taken to share no prefix with what runs."""
        waiting = self._order.waiting
        if self._order.has_levels or (waiting and not (self._waiting_is_stuck and self._stays_stuck(waiting[0]))):
            return 0
        return self._steady.num_steps(self._order.running, most)

    def skip_steady_steps(self, num_steps: int, token_id: int) -> None:
        """Do what so many rounds of `plan` and `record` would; each sequence gets `token_id` in each of them."""
        self._steady.run(self._order.running, num_steps, token_id)
        self._share.rest()

    def _stays_stuck(self, head: Sequence) -> bool:
        """Whether decodes alone never let a head in that found no room. Blocks only get fewer then, and nobody gives
        way to it, unless a budget that was overdrawn recovers."""
        is_lenient_later = self._limits.preemption != "off" and self._budget.is_overdrawn
        is_outranked = any(True for _ in self._order.outranked_by(head))
        return not is_lenient_later and not is_outranked
