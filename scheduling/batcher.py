"""Owns one iteration's plan: who decodes, who prefills, who gives way. Knows nothing of models, sampling or clocks.

The best keys go first, everywhere. How a preempted sequence loses its blocks, and what it may cost, stands in
`scheduling.preemption`; here stands who it is.
"""

from __future__ import annotations

from scheduling.batch_order import BatchOrder
from scheduling.batch_plan import BatchLimits, Plan, Slice
from scheduling.block_account import BlockAccount
from scheduling.cost_model import EngineCosts
from scheduling.errors import NeverFits
from scheduling.kv_blocks import PrefixMatch
from scheduling.preemption import Preempter, PreemptionCounts
from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import Sequence, SequenceStatus
from scheduling.steady_decodes import SteadyDecodes
from scheduling.token_share import TokenShare

__all__ = ["BatchLimits", "Batcher", "Plan", "Slice"]

_NO_MATCH = PrefixMatch()


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
        self._holds_displaced = False
        self._share = TokenShare(limits)
        self._preempter = Preempter(limits.preemption, pool)
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
        self._holds_displaced = holds
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
        extended = self._reserve_decodes(plan)
        if self._order.waiting:
            self._admit(plan, extended)
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

    # Room for the decodes

    def _reserve_decodes(self, plan: Plan) -> set[str]:
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

    # Admission

    def _admit(self, plan: Plan, extended: set[str]) -> None:
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
        if self._is_strict:
            num_tokens = sequence.max_num_tokens
            headroom = sum(self._num_to_come(other) for other in staying)
        else:
            # What is admitted now should not be preempted a step later: a block for each that has not just got one.
            num_tokens = len(sequence.token_ids)
            headroom = sum(other.seq_id not in extended for other in staying)
        owners = [other.seq_id for other in given_up or []]
        return self._pool.num_lacking(num_tokens, match, headroom, owners) == 0

    @property
    def _is_strict(self) -> bool:
        """Whether every longest answer must be sure of its blocks."""
        return self._limits.preemption == "off" or self._budget.is_overdrawn

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
        holds = to_newcomer and self._holds_displaced
        self._order.park(sequence, holds=holds)
        plan.preempted.append(sequence)
        if holds:
            plan.held.append(sequence)
