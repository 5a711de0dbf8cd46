"""The designed steps, on an engine that takes the time that it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.backends.fake import FakeEngine
from engine.config import EngineConfig
from engine.protocol import Chunk, EngineCapacity, Sampled
from fastserve.calibration.fit import LoopCosts, fit_engine, fit_loop
from fastserve.calibration.loop_steps import loop_step_s
from fastserve.calibration.step_sample import StepShape
from fastserve.calibration.steps import designed_shapes, measure_steps
from scheduling.cost_model import StepCostModel
from scheduling.swap_area import BlockCopies

CONFIG = EngineConfig("fake", "fake", backend="fake", max_num_seqs=8, max_num_batched_tokens=128)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def capacity(**fields: int) -> EngineCapacity:
    return replace(FakeEngine(CONFIG).capacity(), **fields)


def test_decodes_prompts_and_both_are_measured_as_far_as_the_engine_holds_them() -> None:
    shapes = designed_shapes(capacity())
    assert {shape.num_decodes for shape in shapes} == {0, 1, 2, 4, 8}
    assert {shape.num_prefill_tokens for shape in shapes} == {0, 8, 16, 32, 64, 128}
    assert any(shape.num_decodes and shape.num_prefill_tokens for shape in shapes)
    assert len(set(shapes)) == len(shapes)


@pytest.mark.parametrize("fields", [{"max_model_len": 600}, {"num_blocks": 20}, {"max_num_batched_tokens": 8}])
def test_nothing_is_asked_that_the_engine_cannot_hold(fields: dict[str, int]) -> None:
    holds = capacity(**fields)
    longest = min(holds.max_model_len, holds.num_blocks * holds.block_size)
    for shape in designed_shapes(holds):
        assert shape.num_decodes + shape.num_prefill_tokens <= holds.max_num_batched_tokens
        assert max(shape.context + 1, shape.prefill_start + shape.num_prefill_tokens) <= longest
    assert designed_shapes(holds)


class _Writes(FakeEngine):
    """Keeps which blocks were written before a step was timed."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config, sleep=lambda seconds: None)
        self.written: set[int] = set()

    def copy_blocks(self, copies: BlockCopies) -> None:
        assert {slot for slot, _ in copies.inward} <= set(range(self.capacity().num_swap_slots))
        self.written |= {block for _, block in copies.inward}

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        for chunk in chunks:
            if chunk.num_prompt_tokens == len(chunk.token_ids) and chunk.start == 0:
                self.written |= set(chunk.block_table)
        return super().execute(chunks)


@pytest.mark.parametrize("swap_space_tokens", [0, 64])
def test_what_is_read_was_written_before_a_step_is_timed(swap_space_tokens: int) -> None:
    engine = _Writes(replace(CONFIG, swap_space_tokens=swap_space_tokens, kv_cache_tokens=4096))
    written: list[int] = []

    def clock() -> float:
        written.append(len(engine.written))
        return 0.0

    measure_steps(engine, num_rounds=1, seed=1, clock=clock)
    assert written[0] == engine.capacity().num_blocks


def test_every_shape_is_timed_once_a_round() -> None:
    clock, told = Clock(), []
    engine = FakeEngine(CONFIG, sleep=clock.sleep, cost=StepCostModel(base_s=0.5))
    samples = measure_steps(engine, num_rounds=3, seed=1, clock=clock, on_step=lambda: told.append(None))
    shapes = designed_shapes(engine.capacity())
    assert len(samples) == len(told) == 3 * len(shapes)
    assert {sample.took_s for sample in samples} == {0.5}
    order = [sample.shape for sample in samples]
    assert set(order[: len(shapes)]) == set(shapes)
    assert order[: len(shapes)] != order[len(shapes) : 2 * len(shapes)]


def test_the_fit_finds_what_the_engine_costs() -> None:
    # The fake engine counts a step's context once for each sequence, so that a prompt's attends to its start alone.
    clock = Clock()
    cost = StepCostModel(base_s=0.010, prefill_token_s=0.0002, decode_seq_s=0.001)
    engine = FakeEngine(CONFIG, sleep=clock.sleep, cost=cost)
    fit = fit_engine(measure_steps(engine, num_rounds=2, seed=1, clock=clock), loop=LoopCosts(0.001, 0.0005))
    step = fit.model.step
    assert step.base_s == pytest.approx(0.011)
    assert step.decode_seq_s == pytest.approx(0.0015)
    assert step.prefill_token_s == pytest.approx(0.0002)
    assert step.context_token_s == pytest.approx(0.0, abs=1e-9)
    assert fit.quality.worst_error < 1e-6
    assert (fit.model.spread[0], fit.model.spread[-1]) == pytest.approx((1.0, 1.0))


def test_a_context_has_the_tokens_of_all_decodes_and_a_prompts_grows_with_it() -> None:
    shape = StepShape(num_decodes=4, context=100, num_prefill_tokens=10, prefill_start=50)
    assert (shape.num_context_tokens, shape.prefill_context) == (400, 10 * 55)


def test_the_loop_is_timed_by_its_median_step() -> None:
    clock = Clock()

    def ticking() -> float:
        clock.now_s += 0.25
        return clock.now_s

    assert loop_step_s(CONFIG, 2, clock=ticking) == 0.25


def test_a_loops_costs_are_split_between_the_step_and_its_sequences() -> None:
    assert fit_loop(lambda number: 0.5 + 0.25 * number, 9) == LoopCosts(step_s=0.5, seq_s=0.25)
    assert fit_loop(lambda number: 0.5, 1) == LoopCosts(step_s=0.5, seq_s=0.0)
