"""Builds sequences and batchers, and plays a step of them. Knows nothing of any one test."""

from __future__ import annotations

from scheduling.batch_plan import Preemption
from scheduling.batcher import Batcher, BatchLimits, Plan, Slice
from scheduling.cost_model import EngineCosts
from scheduling.kv_blocks import BlockPool
from scheduling.score import ScorePolicy, Stamp
from scheduling.sequence import Sequence

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
    num_swap_slots: int = 0,
    preemption: Preemption = "auto",
    max_decode_stretch: float | None = None,
    policy: ScorePolicy | None = None,
) -> Batcher:
    """Blocks hold four tokens; a newcomer must outrank its victim by more than five levels."""
    limits = BatchLimits(
        max_num_seqs,
        max_num_batched_tokens,
        parked_limit,
        MARGIN,
        preemption=preemption,
        max_decode_stretch=max_decode_stretch,
    )
    batcher = Batcher(limits, BlockPool(num_blocks, 4, num_swap_slots))
    batcher.set_policy(policy or ScorePolicy())
    for sequence in sequences:
        batcher.add(sequence)
    return batcher


def run_step(batcher: Batcher, costs: EngineCosts | None = None) -> Plan:
    """Plan a step and pretend to compute it; a sequence ends when it has all its tokens."""
    plan = batcher.plan(costs)
    for part in plan.slices:
        batcher.record(part, 7 if part.completes else None)
        if len(part.sequence.token_ids) >= part.sequence.max_num_tokens:
            batcher.finish(part.sequence.seq_id)
    return plan


def ids(slices: list[Slice]) -> list[str]:
    return [part.sequence.seq_id for part in slices]


def parked(plan: Plan) -> list[str]:
    return [sequence.seq_id for sequence in plan.preempted]
