"""The fake engine: the same tokens whatever the batch, at the stated cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.backends.fake import FakeEngine, fake_token
from engine.protocol import Chunk, SamplingParams
from scheduling.cost_model import StepCostModel
from scheduling.swap_area import BlockCopies
from tests.engine.factories import make_config, make_engine


def make_chunk(
    seq_id: str = "a",
    *,
    start: int = 0,
    num_tokens: int = 4,
    samples: bool = True,
    sampling: SamplingParams | None = None,
) -> Chunk:
    history = list(range(100, 108))
    return Chunk(
        seq_id=seq_id,
        token_ids=history[start : start + num_tokens],
        start=start,
        block_table=[0],
        samples=samples,
        sampling=sampling or SamplingParams(max_tokens=4, seed=1),
        history=history,
        num_prompt_tokens=len(history),
    )


def test_a_token_is_decided_by_its_seed_and_position_alone() -> None:
    engine = make_engine()
    alone = engine.execute([make_chunk("a")])
    beside_another = engine.execute(
        [make_chunk("b", sampling=SamplingParams(4, seed=2)), make_chunk("a", start=7, num_tokens=1)]
    )
    assert alone[0].token_id == beside_another[1].token_id == fake_token(1, 8)
    assert beside_another[0].token_id == fake_token(2, 8) != fake_token(1, 8)


def test_every_token_is_in_the_vocabulary() -> None:
    assert all(
        0 <= fake_token(seed, position) < make_engine().capacity().vocab_size
        for seed in range(50)
        for position in range(50)
    )


def test_a_step_sleeps_for_what_its_work_costs() -> None:
    slept: list[float] = []
    cost = StepCostModel(base_s=1.0, prefill_token_s=0.1, decode_seq_s=0.01, context_token_s=0.001)
    FakeEngine(make_config(), sleep=slept.append, cost=cost).execute(
        [make_chunk(), make_chunk("b", start=7, num_tokens=1)]
    )
    assert slept == [pytest.approx(1.0 + 4 * 0.1 + 0.01 + 7 * 0.001)]


def test_copies_cost_what_the_model_says_of_a_block_and_nothing_without_one() -> None:
    slept: list[float] = []
    cost = StepCostModel(copied_block_s=0.5)
    FakeEngine(make_config(), sleep=slept.append, cost=cost).copy_blocks(BlockCopies([(0, 1), (2, 3)], [(4, 5)]))
    FakeEngine(make_config(), sleep=slept.append).copy_blocks(BlockCopies([(0, 1)]))
    assert slept == [1.5, 0.0]


def test_without_a_cost_model_each_step_costs_what_the_configuration_says() -> None:
    slept: list[float] = []
    FakeEngine(make_config(fake_step_s=0.25), sleep=slept.append).execute([make_chunk()])
    assert slept == [0.25]


def test_a_chunk_in_the_middle_of_a_prompt_chooses_nothing() -> None:
    assert make_engine().execute([make_chunk(samples=False)]) == []


def test_logprobs_come_in_the_number_that_was_asked_for() -> None:
    sampled = make_engine().execute([make_chunk(sampling=SamplingParams(4, 1, logprobs=3, prompt_logprobs=1))])[0]
    assert sampled.logprob is not None
    assert (sampled.logprob.token_id, len(sampled.logprob.top)) == (sampled.token_id, 3)
    assert sampled.prompt_logprobs is not None
    assert [found.token_id for found in sampled.prompt_logprobs] == [101, 102, 103, 104]


def test_the_capacity_follows_from_the_configuration() -> None:
    capacity = make_engine(
        max_num_seqs=3, max_model_len=100, kv_cache_tokens=160, block_size=8, eos_token_ids=(2,)
    ).capacity()
    assert (capacity.max_num_seqs, capacity.max_model_len, capacity.num_blocks, capacity.eos_token_ids) == (
        3,
        100,
        20,
        [2],
    )


def test_the_cache_holds_every_running_and_parked_sequence_where_nothing_else_is_said() -> None:
    assert make_engine(max_num_seqs=3, parked_limit=2, max_model_len=100).capacity().num_blocks == 5 * 7


def test_the_fake_engine_needs_no_torch() -> None:
    program = "import sys, engine.backends.fake; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
