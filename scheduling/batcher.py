"""Owns one iteration's plan: who decodes, who prefills, who gives way. Knows nothing of models, sampling or clocks.

The best keys go first, everywhere. Preemption is by recompute: a parked sequence holds no blocks, keeps its stamp, and
comes back with prompt and output as its new prefill (much of which is usually still cached).
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from scheduling.errors import NeverFits
from scheduling.kv_blocks import BlockPool, PrefixMatch
from scheduling.score import ScorePolicy
from scheduling.sequence import Sequence, SequenceStatus


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one step may hold.

    max_num_batched_tokens: the token budget of a step. parked_limit: how many sequences newcomers may park.
    preemption_margin_levels: by how many levels of priority a newcomer must outrank whoever gives way to it.
    max_num_prompt_logits: tokens of a step whose logits are wanted beside those that choose the next token. A token's
    logits are as long as the vocabulary, so that without a bound one long prompt could take a device's free memory.

    Raises:
        ValueError: a limit is out of range.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    parked_limit: int = 8
    preemption_margin_levels: float = 5.0
    max_num_prompt_logits: int = 256

    def __post_init__(self) -> None:
        positive = ("max_num_seqs", "max_num_batched_tokens", "max_num_prompt_logits")
        for name, least in (*((name, 1) for name in positive), ("parked_limit", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.preemption_margin_levels >= 0:
            raise ValueError(f"preemption_margin_levels: expected at least 0, got {self.preemption_margin_levels}")


@dataclass(frozen=True, slots=True)
class Slice:
    """The tokens of one sequence that a step computes: `num_tokens` of them from position `start`.

    completes: the last of them is the sequence's newest, so that its logits choose the next one.
    """

    sequence: Sequence
    start: int
    num_tokens: int
    completes: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: decodes before prefills, each with the best key first. `preempted` gave way before the step."""

    decode: list[Slice] = field(default_factory=list)
    prefill: list[Slice] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    @property
    def slices(self) -> list[Slice]:
        return self.decode + self.prefill


class Batcher:
    """Holds one engine's sequences and plans each step under `limits`.

    The order is by key, the earlier added first where keys are equal. A head that does not fit keeps its room: nothing
    bypasses it. A prompt gets all its blocks when it is admitted, so only decodes can run out of blocks.
    """

    def __init__(self, limits: BatchLimits, pool: BlockPool) -> None:
        self._limits = limits
        self._pool = pool
        self._policy: ScorePolicy | None = None
        self._sequences: dict[str, Sequence] = {}
        self._ranks: dict[str, tuple[float, int]] = {}  # (-key, order of arrival): sorts best first
        self._waiting: list[Sequence] = []  # waiting and parked, best first
        self._running: list[Sequence] = []  # best first
        self._num_added = 0

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_parked(self) -> int:
        return sum(sequence.status is SequenceStatus.PARKED for sequence in self._waiting)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting) - self.num_parked

    def __contains__(self, seq_id: str) -> bool:
        return seq_id in self._sequences

    def __len__(self) -> int:
        return len(self._sequences)

    def set_policy(self, policy: ScorePolicy) -> None:
        """Order everything by this policy, unless the present one has the same or a later epoch."""
        if self._policy is not None and policy.epoch <= self._policy.epoch:
            return
        self._policy = policy
        for seq_id, (_, order) in self._ranks.items():
            self._ranks[seq_id] = (-policy.key(self._sequences[seq_id].stamp), order)
        self._waiting.sort(key=self._rank)
        self._running.sort(key=self._rank)

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence wait for its place. The policy must have been set.

        Raises:
            NeverFits: prompt and longest answer need more blocks than the pool has.
        """
        assert self._policy is not None, "set_policy comes before add"
        assert sequence.seq_id not in self._sequences, f"{sequence.seq_id} was added before"
        if self._pool.num_blocks_for(sequence.max_num_tokens) > self._pool.num_blocks:
            raise NeverFits(sequence.max_num_tokens, self._pool.num_blocks * self._pool.block_size)
        self._sequences[sequence.seq_id] = sequence
        self._ranks[sequence.seq_id] = (-self._policy.key(sequence.stamp), self._num_added)
        self._num_added += 1
        insort(self._waiting, sequence, key=self._rank)

    def finish(self, seq_id: str, *, forget_blocks: bool = False) -> Sequence:
        """Take a sequence out, at whatever point, and its blocks with it."""
        sequence = self._sequences.pop(seq_id)
        if sequence.status is SequenceStatus.RUNNING:
            self._pool.free(seq_id, forget=forget_blocks)
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        del self._ranks[seq_id]
        sequence.move_to(SequenceStatus.FINISHED)
        return sequence

    def plan(self) -> Plan:
        """Decide the next step: admit, then make room for the decodes, then share out the token budget."""
        plan = Plan()
        self._admit(plan)
        self._reserve_decodes(plan)
        self._fill(plan)
        return plan

    def record(self, part: Slice, token_id: int | None = None) -> None:
        """A step has computed this slice, and chosen `token_id` if it completed its sequence."""
        sequence = part.sequence
        sequence.num_computed = part.start + part.num_tokens
        self._pool.record(sequence.seq_id, sequence.token_ids, sequence.num_computed)
        if token_id is not None:
            sequence.token_ids.append(token_id)

    def _rank(self, sequence: Sequence) -> tuple[float, int]:
        return self._ranks[sequence.seq_id]

    def _key(self, sequence: Sequence) -> float:
        return -self._ranks[sequence.seq_id][0]

    def _admit(self, plan: Plan) -> None:
        """Start waiting sequences, best first, up to the first that finds no room and cannot make any."""
        while self._waiting:
            head = self._waiting[0]
            match = self._match(head)
            victims = [] if self._has_room(head, match) else self._victims_of(head, match)
            for victim in victims:
                self._park(victim, plan)
            if not self._has_room(head, match):
                return
            self._start(head, match)

    def _match(self, sequence: Sequence) -> PrefixMatch:
        if not sequence.reuse_prefix:
            return PrefixMatch()
        return self._pool.match_prefix(sequence.token_ids, sequence.salt)

    def _has_room(self, sequence: Sequence, match: PrefixMatch, given_up: list[Sequence] | None = None) -> bool:
        """Whether there are a slot and blocks, if `given_up` stopped running.

        A block is kept back for each running sequence: what is admitted now should not be preempted a step later.
        """
        owners = [other.seq_id for other in given_up or []]
        num_running = len(self._running) - len(owners)
        if num_running >= self._limits.max_num_seqs:
            return False
        return self._pool.num_lacking(len(sequence.token_ids), match, num_running, owners) == 0

    def _victims_of(self, newcomer: Sequence, match: PrefixMatch) -> list[Sequence]:
        """The fewest running sequences, worst first, that must give way; none if even all it outranks are too few."""
        assert self._policy is not None
        margin = self._limits.preemption_margin_levels * self._policy.alpha
        num_may_park = self._limits.parked_limit - self.num_parked
        outranked = [other for other in reversed(self._running) if self._key(newcomer) > self._key(other) + margin]
        for count in range(1, min(len(outranked), num_may_park) + 1):
            if self._has_room(newcomer, match, outranked[:count]):
                return outranked[:count]
        return []

    def _start(self, sequence: Sequence, match: PrefixMatch) -> None:
        allocated = self._pool.allocate(sequence.seq_id, len(sequence.token_ids), match, sequence.salt)
        assert allocated, f"{sequence.seq_id} does not fit in the room that it was promised"
        sequence.num_computed = len(match.block_ids) * self._pool.block_size
        if sequence.num_cached is None:
            sequence.num_cached = sequence.num_computed
        sequence.move_to(SequenceStatus.RUNNING)
        self._waiting.remove(sequence)
        insort(self._running, sequence, key=self._rank)

    def _park(self, sequence: Sequence, plan: Plan) -> None:
        """Preempt by recompute."""
        self._pool.free(sequence.seq_id)
        sequence.num_computed = 0
        sequence.move_to(SequenceStatus.PARKED)
        self._running.remove(sequence)
        insort(self._waiting, sequence, key=self._rank)
        plan.preempted.append(sequence)

    def _reserve_decodes(self, plan: Plan) -> None:
        """Give every decode the block that its next token may need; the last in order give way when blocks run out."""
        for sequence in list(self._running):
            if sequence.status is SequenceStatus.RUNNING and sequence.num_pending == 1:
                self._reserve(sequence, plan)

    def _reserve(self, sequence: Sequence, plan: Plan) -> None:
        """The last in order gives way, by key and then by arrival; the sequence itself where nobody comes after it.

        Whoever comes first of all never gives way here, so that somebody always gets on.
        """
        while not self._pool.extend(sequence.seq_id, len(sequence.token_ids)):
            last = self._running[-1]
            self._park(last, plan)
            if last is sequence:
                return

    def _fill(self, plan: Plan) -> None:
        """Share out the token budget: decodes first, then as much of each prompt as is left, best keys first."""
        budget, num_logits = self._limits.max_num_batched_tokens, self._limits.max_num_prompt_logits
        decodes = [sequence for sequence in self._running if sequence.num_pending == 1]
        prefills = [sequence for sequence in self._running if sequence.num_pending > 1]
        for part, sequences in ((plan.decode, decodes), (plan.prefill, prefills)):
            for sequence in sequences:
                is_scored = part is plan.prefill and sequence.wants_prompt_logits
                num_tokens = min(sequence.num_pending, budget, num_logits if is_scored else budget)
                if num_tokens == 0:
                    continue
                part.append(Slice(sequence, sequence.num_computed, num_tokens, num_tokens == sequence.num_pending))
                budget -= num_tokens
                num_logits -= num_tokens * is_scored
