"""One step's plan: best keys first, decodes before prefills, and who gives way when slots or blocks run out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scheduling.batcher import Batcher, BatchLimits, Plan, Slice
from scheduling.errors import NeverFits
from scheduling.kv_blocks import BlockPool
from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import IllegalMove, Sequence, SequenceStatus

MARGIN = 5.0


def make_sequence(
    seq_id: str, *, priority: float = 0, arrival_s: float = 0, num_tokens: int = 4, max_num_tokens: int = 16
) -> Sequence:
    """Every sequence's tokens are its own, so that none shares a prefix by accident."""
    tokens = [hash((seq_id, i)) % 1_000_003 for i in range(num_tokens)]
    return Sequence(seq_id, Stamp(priority, arrival_s), tokens, num_tokens, max_num_tokens)


def make_batcher(
    *sequences: Sequence,
    max_num_seqs: int = 4,
    max_num_batched_tokens: int = 64,
    parked_limit: int = 8,
    num_blocks: int = 64,
    policy: ScorePolicy | None = None,
) -> Batcher:
    """Blocks hold four tokens; a newcomer must outrank its victim by more than five levels."""
    limits = BatchLimits(max_num_seqs, max_num_batched_tokens, parked_limit, MARGIN)
    batcher = Batcher(limits, BlockPool(num_blocks, 4))
    batcher.set_policy(policy or ScorePolicy())
    for sequence in sequences:
        batcher.add(sequence)
    return batcher


def run_step(batcher: Batcher) -> Plan:
    """Plan a step and pretend to compute it; a sequence ends when it has all its tokens."""
    plan = batcher.plan()
    for part in plan.slices:
        batcher.record(part, 7 if part.completes else None)
        if len(part.sequence.token_ids) >= part.sequence.max_num_tokens:
            batcher.finish(part.sequence.seq_id)
    return plan


def ids(slices: list[Slice]) -> list[str]:
    return [part.sequence.seq_id for part in slices]


def parked(plan: Plan) -> list[str]:
    return [sequence.seq_id for sequence in plan.preempted]


def test_sequences_start_best_key_first_and_equals_in_order_of_arrival_here() -> None:
    batcher = make_batcher(
        make_sequence("bulk", priority=-1),
        make_sequence("first"),
        make_sequence("urgent", priority=9),
        make_sequence("second"),
    )
    assert ids(batcher.plan().prefill) == ["urgent", "first", "second", "bulk"]


def test_decodes_come_before_prefills_and_share_the_token_budget_with_them() -> None:
    batcher = make_batcher(make_sequence("bulk"), max_num_batched_tokens=6)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, num_tokens=8))
    plan = run_step(batcher)
    assert [(part.sequence.seq_id, part.start, part.num_tokens) for part in plan.slices] == [
        ("bulk", 4, 1),
        ("urgent", 0, 5),
    ]
    plan = run_step(batcher)
    assert [(part.start, part.num_tokens, part.completes) for part in plan.prefill] == [(5, 3, True)]


def test_decodes_beyond_the_token_budget_wait_their_turn_by_key() -> None:
    batcher = make_batcher(
        make_sequence("low", num_tokens=1), make_sequence("high", num_tokens=1, priority=1), max_num_batched_tokens=1
    )
    assert ids(run_step(batcher).decode) == ["high"]


def test_a_newcomer_that_does_not_outrank_by_the_margin_waits_for_a_slot() -> None:
    batcher = make_batcher(make_sequence("bulk"), max_num_seqs=1)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=MARGIN))
    plan = run_step(batcher)
    assert (ids(plan.slices), parked(plan), batcher.num_waiting) == (["bulk"], [], 1)


def test_a_newcomer_that_outranks_by_more_than_the_margin_parks_the_worst() -> None:
    batcher = make_batcher(make_sequence("worst", priority=-1), make_sequence("bulk"), max_num_seqs=2)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=MARGIN + 1))
    plan = run_step(batcher)
    assert (ids(plan.slices), parked(plan)) == (["bulk", "urgent"], ["worst"])
    assert (batcher.num_running, batcher.num_parked, batcher.num_waiting) == (2, 1, 0)


def test_a_parked_sequence_comes_back_in_key_order_with_its_output_and_from_what_is_still_cached() -> None:
    victim = make_sequence("victim", num_tokens=8)
    batcher = make_batcher(victim, max_num_seqs=1)
    run_step(batcher)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, max_num_tokens=5))
    assert parked(run_step(batcher)) == ["victim"]
    assert victim.num_computed == 0
    batcher.add(make_sequence("late", arrival_s=1))
    plan = run_step(batcher)
    assert [(part.sequence.seq_id, part.start, part.num_tokens) for part in plan.slices] == [("victim", 8, 2)]
    assert victim.num_cached == 0


def test_no_newcomer_parks_anybody_at_the_parked_limit() -> None:
    batcher = make_batcher(make_sequence("a"), make_sequence("b"), max_num_seqs=2, parked_limit=1)
    run_step(batcher)
    for name in ("urgent", "too many"):
        batcher.add(make_sequence(name, priority=50))
    plan = run_step(batcher)
    assert (sorted(ids(plan.slices)), parked(plan), batcher.num_waiting) == (["a", "urgent"], ["b"], 1)


def test_when_blocks_run_out_the_lowest_key_gives_way_whatever_the_margin() -> None:
    batcher = make_batcher(
        make_sequence("low", num_tokens=3), make_sequence("high", priority=1, num_tokens=3), num_blocks=4
    )
    run_step(batcher)
    plan = Plan()
    while not plan.preempted:
        plan = run_step(batcher)
    assert (parked(plan), ids(plan.slices)) == (["low"], ["high"])


def test_when_blocks_run_out_the_later_of_equals_gives_way_and_both_end() -> None:
    first, second = make_sequence("first", num_tokens=3), make_sequence("second", num_tokens=3)
    batcher = make_batcher(first, second, num_blocks=4)
    preempted = [seq_id for _ in range(60) for seq_id in parked(run_step(batcher))]
    assert (len(batcher), preempted) == (0, ["second"])


def test_when_blocks_run_out_the_last_in_order_parks_itself() -> None:
    low, high = make_sequence("low", max_num_tokens=12), make_sequence("high", priority=1, max_num_tokens=12)
    batcher = make_batcher(low, high, num_blocks=3)
    run_step(batcher)
    assert parked(run_step(batcher)) == ["low"]
    assert (low.num_computed, batcher.num_parked, batcher.num_running) == (0, 1, 1)


def test_equals_never_preempt_each_other_for_a_slot_even_without_a_margin() -> None:
    batcher = Batcher(BatchLimits(1, 64, preemption_margin_levels=0), BlockPool(64, 4))
    batcher.set_policy(ScorePolicy())
    batcher.add(make_sequence("running"))
    run_step(batcher)
    batcher.add(make_sequence("equal"))
    plan = run_step(batcher)
    assert (ids(plan.slices), parked(plan)) == (["running"], [])


def test_a_newcomer_leaves_each_running_sequence_the_block_that_it_needs_next() -> None:
    batcher = make_batcher(make_sequence("running", num_tokens=4), num_blocks=4)
    run_step(batcher)
    batcher.add(make_sequence("newcomer", num_tokens=12))
    assert ids(run_step(batcher).slices) == ["running"]
    batcher = make_batcher(make_sequence("running", num_tokens=4), num_blocks=5)
    run_step(batcher)
    batcher.add(make_sequence("newcomer", num_tokens=12))
    assert ids(run_step(batcher).slices) == ["running", "newcomer"]


def test_nothing_bypasses_a_head_that_has_no_room() -> None:
    batcher = make_batcher(make_sequence("running", num_tokens=12), num_blocks=6)
    run_step(batcher)
    batcher.add(make_sequence("head", priority=2, num_tokens=14))
    batcher.add(make_sequence("small", priority=1, num_tokens=1))
    assert ids(run_step(batcher).slices) == ["running"]


def test_a_newcomer_parks_only_as_many_as_it_needs_and_nobody_in_vain() -> None:
    bulk = [make_sequence(f"bulk {i}", num_tokens=8, arrival_s=i) for i in range(3)]
    batcher = make_batcher(*bulk, num_blocks=9)
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, num_tokens=16, max_num_tokens=20))
    assert parked(run_step(batcher)) == ["bulk 2", "bulk 1"]
    batcher = make_batcher(
        make_sequence("equal", priority=9, num_tokens=12), make_sequence("bulk", num_tokens=8), num_blocks=7
    )
    run_step(batcher)
    batcher.add(make_sequence("urgent", priority=9, num_tokens=24, max_num_tokens=28))
    assert parked(run_step(batcher)) == []


def test_a_new_policy_orders_what_waits_anew_and_an_older_one_does_not() -> None:
    batcher = make_batcher(max_num_seqs=1, policy=ScorePolicy(alpha=1, beta=0, epoch=1))
    old, urgent = make_sequence("old", arrival_s=0), make_sequence("urgent", priority=2, arrival_s=100)
    batcher.add(old)
    batcher.add(urgent)
    batcher.set_policy(ScorePolicy(alpha=0, beta=1, epoch=2))
    batcher.set_policy(ScorePolicy(alpha=1, beta=0, epoch=1))
    assert ids(batcher.plan().prefill) == ["old"]


def test_a_new_policy_orders_what_runs_anew() -> None:
    old, urgent = make_sequence("old"), make_sequence("urgent", priority=2, arrival_s=100)
    batcher = make_batcher(old, urgent, policy=ScorePolicy(alpha=1, beta=0, epoch=1))
    assert ids(run_step(batcher).prefill) == ["urgent", "old"]
    batcher.set_policy(ScorePolicy(alpha=0, beta=1, epoch=2))
    assert ids(run_step(batcher).decode) == ["old", "urgent"]


def test_what_could_never_fit_is_refused_with_the_arithmetic() -> None:
    batcher = make_batcher(num_blocks=3)
    batcher.add(make_sequence("just", max_num_tokens=12))
    with pytest.raises(NeverFits, match="need 13 tokens, the largest replica holds 12"):
        batcher.add(make_sequence("too long", max_num_tokens=13))
    assert len(batcher) == 1


def test_a_sequence_that_must_not_reuse_a_prefix_computes_all_of_it() -> None:
    first = make_sequence("first", num_tokens=9)
    batcher = make_batcher(first)
    run_step(batcher)
    for seq_id, reuse in (("again", True), ("whole", False)):
        batcher.add(Sequence(seq_id, Stamp(0, 0), first.token_ids[:9], 9, 16, reuse_prefix=reuse))
    plan = batcher.plan()
    assert [part.start for part in plan.slices if part.sequence is not first] == [8, 0]


def test_prompts_whose_logits_are_wanted_share_a_bound_of_their_own_and_leave_the_rest_to_others() -> None:
    batcher = Batcher(BatchLimits(4, 64, max_num_prompt_logits=10), BlockPool(64, 4))
    batcher.set_policy(ScorePolicy())
    for name, is_scored in (("scored", True), ("scored too", True), ("plain", False)):
        batcher.add(replace(make_sequence(name, num_tokens=14), wants_prompt_logits=is_scored))
    shares = [[(part.sequence.seq_id, part.num_tokens) for part in run_step(batcher).slices] for _ in range(3)]
    assert shares == [
        [("scored", 10), ("plain", 14)],
        [("plain", 1), ("scored", 4), ("scored too", 6)],
        [("scored", 1), ("scored too", 8)],
    ]


@pytest.mark.parametrize("status", [SequenceStatus.WAITING, SequenceStatus.RUNNING, SequenceStatus.PARKED])
def test_a_sequence_can_be_taken_out_at_any_point_and_leaves_nothing(status: SequenceStatus) -> None:
    pool = BlockPool(8, 4)
    batcher = Batcher(BatchLimits(1, 64), pool)
    batcher.set_policy(ScorePolicy())
    sequence = make_sequence("a")
    batcher.add(sequence)
    if status is not SequenceStatus.WAITING:
        batcher.plan()
    if status is SequenceStatus.PARKED:
        batcher.add(make_sequence("urgent", priority=50))
        batcher.plan()
        batcher.finish("urgent")
    assert sequence.status is status
    batcher.finish("a")
    assert (sequence.status, len(batcher), "a" in batcher, pool.num_used) == (SequenceStatus.FINISHED, 0, False, 0)
    assert batcher.plan() == Plan()


def test_a_finished_sequence_makes_no_more_moves() -> None:
    sequence = make_sequence("a")
    with pytest.raises(IllegalMove, match="waiting cannot become parked"):
        sequence.move_to(SequenceStatus.PARKED)
    sequence.move_to(SequenceStatus.FINISHED)
    with pytest.raises(IllegalMove, match="finished cannot become running"):
        sequence.move_to(SequenceStatus.RUNNING)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs: expected at least 1, got 0"),
        ({"max_num_batched_tokens": 0}, "max_num_batched_tokens: expected at least 1"),
        ({"max_num_prompt_logits": 0}, "max_num_prompt_logits: expected at least 1"),
        ({"parked_limit": -1}, "parked_limit: expected at least 0"),
        ({"preemption_margin_levels": -0.5}, "preemption_margin_levels: expected at least 0"),
    ],
)
def test_a_limit_out_of_range_is_refused_by_name(limits: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchLimits(**{"max_num_seqs": 1, "max_num_batched_tokens": 1, **limits})  # type: ignore[arg-type]


class BatcherLife(RuleBasedStateMachine):
    """Sequences come and go while steps run; in each step the limits hold and the order is the keys'."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(10, 4)
        self.limits = BatchLimits(3, 8, parked_limit=2, preemption_margin_levels=1)
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
        if not self.alive:
            assert self.pool.num_used == 0


TestBatcherLife = BatcherLife.TestCase


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
