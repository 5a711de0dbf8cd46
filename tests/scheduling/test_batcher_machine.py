"""The batcher under whatever comes: the limits hold, the order is the keys', and every sequence ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scheduling.batch_plan import Preemption
from scheduling.batcher import Batcher, BatchLimits, Slice
from scheduling.kv_blocks import BlockPool
from scheduling.preemption import PreemptionCounts
from scheduling.score import ScorePolicy
from scheduling.sequence import Sequence, SequenceStatus
from tests.scheduling.batching import make_batcher, make_sequence, run_step


class BatcherLife(RuleBasedStateMachine):
    """Sequences come and go while steps run; in each step the limits hold and the order is the keys'."""

    preemption: Preemption = "auto"

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(10, 4, num_swap_slots=5)
        self.limits = BatchLimits(3, 8, parked_limit=2, preemption_margin_levels=1, preemption=self.preemption)
        self.batcher = Batcher(self.limits, self.pool)
        self.policy = ScorePolicy()
        self.batcher.set_policy(self.policy)
        self.alive: dict[str, Sequence] = {}
        self.num_added = 0

    @rule(priority=st.integers(0, 4), num_tokens=st.integers(1, 20), num_output=st.integers(1, 12))
    def add(self, priority: int, num_tokens: int, num_output: int) -> None:
        seq_id = f"sequence {self.num_added}"
        self.num_added += 1
        total = num_tokens + num_output
        sequence = make_sequence(seq_id, priority=priority, num_tokens=num_tokens, max_num_tokens=total)
        self.alive[seq_id] = sequence
        self.batcher.add(sequence)

    @precondition(lambda self: self.alive)
    @rule()
    def step(self) -> None:
        plan = self.batcher.plan()
        assert plan.slices, "a plan without work would never end"
        assert sum(part.num_tokens for part in plan.slices) <= self.limits.max_num_batched_tokens
        for slices in (plan.decode, plan.prefill):
            keys = [self.policy.key(part.sequence.stamp) for part in slices]
            assert keys == sorted(keys, reverse=True)
        for part in plan.slices:
            self.check_and_record(part)

    def check_and_record(self, part: Slice) -> None:
        sequence = part.sequence
        assert sequence.status is SequenceStatus.RUNNING
        assert part.start == sequence.num_computed
        room = len(self.pool.block_table(sequence.seq_id)) * self.pool.block_size
        assert part.start + part.num_tokens <= room
        self.batcher.record(part, 7 if part.completes else None)
        if len(sequence.token_ids) >= sequence.max_num_tokens:
            self.batcher.finish(sequence.seq_id)
            del self.alive[sequence.seq_id]

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.alive)))
        self.batcher.finish(seq_id)
        del self.alive[seq_id]

    @invariant()
    def nothing_is_lost_and_the_limits_hold(self) -> None:
        self.pool.check_integrity()
        counts = self.batcher.num_running, self.batcher.num_waiting, self.batcher.num_parked
        assert sum(counts) == len(self.batcher) == len(self.alive)
        assert self.batcher.num_running <= self.limits.max_num_seqs
        assert self.preemption != "off" or self.batcher.preemptions == PreemptionCounts()
        if not self.alive:
            assert (self.pool.num_used, self.pool.swap.num_used) == (0, 0)


class LifeWithoutPreemption(BatcherLife):
    preemption = "off"


class LifeByRecompute(BatcherLife):
    preemption = "recompute"


TestBatcherLife = BatcherLife.TestCase
TestLifeWithoutPreemption = LifeWithoutPreemption.TestCase
TestLifeByRecompute = LifeByRecompute.TestCase


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30), st.integers(1, 10)), min_size=1, max_size=12))
def test_every_sequence_ends_however_few_blocks_there_are(shapes: list[tuple[int, int, int]]) -> None:
    sequences = [
        make_sequence(str(i), priority=priority * 3, num_tokens=num_tokens, max_num_tokens=num_tokens + num_output)
        for i, (priority, num_tokens, num_output) in enumerate(shapes)
    ]
    batcher = make_batcher(*sequences, num_blocks=10, max_num_batched_tokens=7)
    num_steps = 0
    while len(batcher):
        run_step(batcher)
        num_steps += 1
        assert num_steps < 5_000
    assert all(len(sequence.token_ids) == sequence.max_num_tokens for sequence in sequences)
