"""One step's plan: best keys first, decodes before prefills, and what the limits and the blocks allow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduling.batcher import Batcher, BatchLimits, Plan
from scheduling.errors import NeverFits
from scheduling.kv_blocks import BlockPool
from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import IllegalMove, Sequence, SequenceStatus
from tests.scheduling.batching import ids, make_batcher, make_sequence, run_step


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
