"""A preempted sequence's answer is what it would have been, of a real model, however its blocks were taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.backends.deepspeed import DeepSpeedEngine, LoadedRank
from engine.config import EngineConfig
from engine.lifeline import Lifeline
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineCapacity, EngineRequest, EngineStats
from engine.runner import Runner
from engine.step_channel import StepChannel
from engine.swap_space import SwapSpace
from scheduling.batch_plan import Preemption
from tests.engine.factories import make_request, run_to_end, tokens_of
from tests.engine.native import needs_native
from tests.engine.playing import BLOCK_SIZE, make_fused_runner, make_runner
from tests.engine.tiny_models import VOCAB_SIZE

TinyModel = Callable[[str], Path]
MAKERS = [pytest.param(make_runner, id="plain"), pytest.param(make_fused_runner, id="native", marks=needs_native)]
NUM_BLOCKS, NUM_SWAP_SLOTS = 14, 20
MAX_TOKENS = 40
#: The first two begin alike; together they need more blocks than there are.
PROMPTS = {"a": [*range(2, 40), 7], "b": [*range(2, 40), 9, 9], "c": [200, 100] * 9, "d": list(range(150, 215))}


def make_loop(runner: Runner, preemption: Preemption, *, prefix_caching: bool) -> EngineLoop:
    """A loop over one rank that nobody else shares."""
    capacity = EngineCapacity(
        model_name="tiny",
        max_num_seqs=3,
        max_model_len=NUM_BLOCKS * BLOCK_SIZE,
        max_num_batched_tokens=32,
        block_size=BLOCK_SIZE,
        num_blocks=NUM_BLOCKS,
        vocab_size=VOCAB_SIZE,
        num_swap_slots=NUM_SWAP_SLOTS,
        block_bytes=runner.cache.num_bytes // runner.cache.num_blocks,
    )
    loaded = LoadedRank(runner, capacity, StepChannel([]), Lifeline([], lambda: None), SwapSpace(runner.cache, 20))
    config = EngineConfig("tiny", "", preemption=preemption, prefix_caching=prefix_caching)
    return EngineLoop(DeepSpeedEngine(loaded), config)


def greedy(lease_id: str, priority: float = 0) -> EngineRequest:
    prompt = PROMPTS[lease_id]
    return make_request(lease_id, prompt=prompt, max_tokens=MAX_TOKENS, temperature=0, priority=priority)


def answers_one_by_one(loop: EngineLoop) -> dict[str, list[int]]:
    return {lease_id: tokens_of(run_to_end(loop, greedy(lease_id))[lease_id]) for lease_id in PROMPTS}


def answers_under_pressure(loop: EngineLoop) -> tuple[dict[str, list[int]], EngineStats]:
    """All at once in too few blocks, and halfway through a newcomer that outranks them."""
    loop.apply(CommandMessage(added=[greedy(lease_id) for lease_id in "abc"]))
    found: dict[str, list[int]] = {lease_id: [] for lease_id in PROMPTS}
    for _ in range(20):
        for output in loop.step().outputs:
            found[output.lease_id] += output.token_ids
    for lease_id, outputs in run_to_end(loop, greedy("d", priority=50)).items():
        found[lease_id] += tokens_of(outputs)
    loop.check_idle()
    return found, loop.stats


@pytest.mark.parametrize("prefix_caching", [True, False], ids=["caching", "no caching"])
@pytest.mark.parametrize("preemption", ["swap", "recompute"])
@pytest.mark.parametrize("make", MAKERS)
def test_a_preempted_answer_is_what_it_would_have_been(
    make: Callable[..., Runner], preemption: Preemption, prefix_caching: bool, tiny_model: TinyModel
) -> None:
    runner = make(tiny_model("llama"), num_blocks=NUM_BLOCKS)
    alone = answers_one_by_one(make_loop(runner, "off", prefix_caching=False))
    found, stats = answers_under_pressure(make_loop(runner, preemption, prefix_caching=prefix_caching))
    assert found == alone
    assert stats.num_preemptions_by_swap == (stats.num_preemptions if preemption == "swap" else 0)
    assert stats.num_preemptions > 1
    assert (stats.num_blocks_swapped_in > 0) == (preemption == "swap")


def test_with_preemption_off_the_same_pressure_preempts_nobody(tiny_model: TinyModel) -> None:
    runner = make_runner(tiny_model("llama"), num_blocks=NUM_BLOCKS)
    alone = answers_one_by_one(make_loop(runner, "off", prefix_caching=False))
    found, stats = answers_under_pressure(make_loop(runner, "off", prefix_caching=True))
    assert (found, stats) == (alone, replace(stats, num_preemptions=0))
