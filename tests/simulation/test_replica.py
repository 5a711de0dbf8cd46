"""One replica: hand-worked steps, and skipped ones that are the same as planned ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.backends.fake import FakeEngine
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest, SamplingParams
from scheduling.batch_plan import Preemption, Slice
from scheduling.cost_model import EngineCosts, StepCostModel
from scheduling.errors import NeverFits
from scheduling.score import ScorePolicy, Stamp
from simulation.activity import Activity
from simulation.engine_messages import Gone, Move, Resume, Work
from simulation.engine_model import EngineModel
from simulation.replica import SimulatedReplica
from simulation.replica_shape import ReplicaShape
from simulation.step_tape import StepTape
from tests.simulation.scenarios import ENGINE, make_shape

EVEN = StepTape([1.0], seed=0)
UNEVEN = StepTape([0.5, 1.0, 1.1, 4.0], seed=3, num_factors=97)


@dataclass(frozen=True)
class Coming:
    """Work, and when it comes."""

    at_s: float
    work: Work


def coming(
    number: int, at_s: float, num_prompt: int, num_output: int, priority: float = 0, arrived_s: float | None = None
) -> Coming:
    stamp = Stamp(priority, at_s if arrived_s is None else arrived_s)
    return Coming(at_s, Work(f"r{number}", stamp, ScorePolicy(), num_prompt, num_output, num_output))


def make_replica(
    shape: ReplicaShape | None = None, engine: EngineModel = ENGINE, tape: StepTape = EVEN
) -> SimulatedReplica:
    return SimulatedReplica("replica", shape or make_shape(), engine, tape, place=0)


def play(replica: SimulatedReplica, work: list[Coming]) -> dict[str, list[float]]:
    """When each began and ended. Who is held may go on at once, which the engine sees a step later."""
    times: dict[str, list[float]] = {}
    left = sorted(work, key=lambda each: each.at_s)
    stamps = {each.work.lease_id: each.work.stamp for each in work}
    while left or replica.due_s is not None:
        due_s = replica.due_s
        if left and (due_s is None or left[0].at_s <= due_s):
            first = left.pop(0)
            replica.accept(first.work, first.at_s)
            continue
        assert due_s is not None
        progress = replica.advance()
        for lease_id in progress.begun:
            times[lease_id] = [due_s]
        for gone in progress.ended:
            times[gone.lease_id].append(due_s)
        for lease_id in progress.held:
            replica.accept(Resume(lease_id, stamps[lease_id]), due_s)
    return times


def test_a_request_alone_takes_its_prompt_and_a_step_for_each_other_token() -> None:
    assert play(make_replica(), [coming(1, 5.0, num_prompt=10, num_output=4)]) == {"r1": [7.0, 10.0]}


def test_an_answer_of_one_token_ends_with_its_prompt() -> None:
    assert play(make_replica(), [coming(1, 0.0, num_prompt=10, num_output=1)]) == {"r1": [2.0, 2.0]}


def test_who_comes_in_the_middle_of_a_step_is_looked_at_when_it_ends() -> None:
    times = play(make_replica(), [coming(1, 0.0, 10, 6), coming(2, 3.5, 10, 2)])
    # Steps end at 2, 3, 4; the one with the second prompt takes two seconds; then one each.
    assert times == {"r1": [2.0, 8.0], "r2": [6.0, 7.0]}


def test_decodes_take_longer_as_their_context_grows() -> None:
    engine = EngineModel(StepCostModel(base_s=1.0, context_token_s=0.01))
    times = play(make_replica(engine=engine), [coming(1, 0.0, num_prompt=10, num_output=4)])
    assert times["r1"] == pytest.approx([1.0, 1.0 + 1.10 + 1.11 + 1.12])


def test_a_long_prompt_is_computed_in_chunks() -> None:
    times = play(make_replica(make_shape(max_num_batched_tokens=20)), [coming(1, 0.0, num_prompt=50, num_output=1)])
    assert times["r1"] == pytest.approx([3.0 + 2.0 + 1.0 + 2.0, 8.0])


def test_the_better_key_waits_for_no_slot_when_it_outranks_who_runs() -> None:
    replica = make_replica(make_shape(max_num_seqs=1))
    times = play(replica, [coming(1, 0.0, 10, 8), coming(2, 3.0, 10, 2, priority=20)])
    assert times["r2"] == [5.0, 6.0]
    assert times["r1"][1] > 6.0
    assert replica.preemptions.num_by_recompute == 1


def test_who_gave_way_is_held_until_somebody_says_what_becomes_of_it() -> None:
    replica = make_replica(make_shape(max_num_seqs=1))
    replica.accept(coming(1, 0.0, 10, 8).work, 0.0)
    replica.advance()
    replica.accept(coming(2, 1.0, 10, 2, priority=20).work, 1.0)
    replica.advance()  # the first prompt is done at 2, and its sequence has one token
    progress = replica.advance()
    assert (progress.preempted, progress.held, progress.begun) == (["r1"], ["r1"], ["r2"])
    assert replica.advance().ended == [Gone("r2", num_output_tokens=2, num_served=11)]
    assert replica.due_s is None
    replica.accept(Move("r1"), 9.0)
    assert replica.advance().moved == [Gone("r1", num_output_tokens=1, num_served=10)]
    assert replica.num_held == 0


def test_what_a_replica_has_done_is_counted() -> None:
    replica = make_replica()
    play(replica, [coming(1, 0.0, 10, 4), coming(2, 0.0, 10, 3)])
    assert replica.activity == Activity(busy_s=3.0 + 3.0, slot_s=2 * 5.0 + 1.0, num_steps=4, num_served=20 + 7)
    assert replica.due_s is None
    assert replica.num_held == 0


def test_what_a_run_of_steps_has_served_so_far_is_known_in_the_middle_of_it() -> None:
    replica = make_replica()
    for number in (1, 2):
        replica.accept(coming(number, 0.0, 10, 20).work, 0.0)
    replica.advance()
    assert replica.num_served_by(2.0) == 0
    replica.advance()  # both prompts are done at 3, and a run of nineteen steps begins
    assert replica.due_s == 22.0
    assert [replica.num_served_by(at_s) for at_s in (3.5, 4.5, 9.9)] == [22, 24, 34]


def test_what_is_larger_than_the_cache_is_refused() -> None:
    with pytest.raises(NeverFits):
        play(make_replica(make_shape(num_blocks=2)), [coming(1, 0.0, 10, 4)])


Shape = tuple[float, int, int, int]  # when, tokens of prompt and of answer, priority
shapes = st.tuples(st.floats(0, 60), st.integers(1, 40), st.integers(1, 30), st.sampled_from([0, 0, 8, 20]))


class Taught:
    """Costs that are known. An engine learns from a run of steps as of steps that were all alike, and so not to the bit
    what it learns from each; and what it has learned decides who gives way."""

    latest = EngineCosts(0.03, copy_bytes_per_s=10_000.0, block_bytes=1000, decode_step_s=0.5, decode_seq_s=0.1)

    def observe_step(self, prefill: list[Slice], num_decodes: int, took_s: float) -> None:
        """Nothing new."""

    def observe_decodes(self, num_decodes: int, took_s: float, num_steps: int = 1) -> None:
        """Nothing new."""

    def observe_copies(self, num_blocks: int, took_s: float) -> None:
        """Nothing new."""


def make_taught_replica(shape: ReplicaShape) -> SimulatedReplica:
    engine = EngineModel(StepCostModel(0.5, 0.03, 0.1, 0.001, 0.2), 0.0001, block_bytes=1000)
    replica = make_replica(shape, engine, UNEVEN)
    replica._pace._measured = Taught()  # type: ignore[assignment]
    return replica


@given(st.lists(shapes, min_size=1, max_size=12), st.sampled_from(["recompute", "swap", "off"]), st.integers(18, 60))
@example([(0.0, 1, 28, 0), (1.0, 9, 12, 0), (5.0, 1, 1, 8), (0.5, 2, 15, 0)], "swap", 18)
def test_a_replica_that_skips_is_the_same_as_one_that_plans_every_step(
    drawn: list[Shape], preemption: Preemption, num_blocks: int
) -> None:
    work = [coming(number, at_s, *lengths) for number, (at_s, *lengths) in enumerate(drawn)]
    shape = make_shape(max_num_seqs=3, num_blocks=num_blocks, preemption=preemption, num_swap_slots=6)
    skipping, planning = make_taught_replica(shape), make_taught_replica(replace(shape, max_skip=1))
    skipped, planned = play(skipping, work), play(planning, work)
    assert skipped.keys() == planned.keys() == {each.work.lease_id for each in work}
    for lease_id, times in skipped.items():
        assert times == pytest.approx(planned[lease_id], rel=1e-9)
    assert skipping.activity.num_steps == planning.activity.num_steps
    assert skipping.activity.slot_s == pytest.approx(planning.activity.slot_s)
    assert skipping.preemptions == planning.preemptions


class VirtualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def play_the_loop(shape: ReplicaShape, cost: StepCostModel, work: list[Coming]) -> dict[str, list[float]]:
    """The same over the engine's own loop, with an engine that takes its time from a clock of ours."""
    limits, clock = shape.limits, VirtualClock()
    config = EngineConfig(
        "fake",
        "fake",
        backend="fake",
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        block_size=shape.block_size,
        kv_cache_tokens=shape.kv_tokens,
        parked_limit=limits.parked_limit,
        preemption=limits.preemption,
        max_decode_stretch=limits.max_decode_stretch,
        swap_space_tokens=0,
        max_model_len=shape.kv_tokens,
    )
    loop = EngineLoop(FakeEngine(config, sleep=clock.sleep, cost=cost), config, clock=lambda: clock.now_s)
    loop.apply(CommandMessage(holds_displaced=True))
    held: list[str] = []
    stamps = {each.work.lease_id: each.work.stamp for each in work}
    times: dict[str, list[float]] = {}
    left = sorted(work, key=lambda each: each.at_s)
    while left or loop.has_work or held:
        if not loop.has_work:  # nobody computes, so that who is held hears at once
            loop.apply(CommandMessage(resumed=[(lease_id, stamps[lease_id]) for lease_id in held]))
            held = []
        if not loop.has_work:
            clock.now_s = max(clock.now_s, left[0].at_s)
        while left and left[0].at_s <= clock.now_s:
            loop.apply(CommandMessage(added=[engine_request(left.pop(0).work)]))
        message = loop.step()
        loop.apply(CommandMessage(resumed=[(lease_id, stamps[lease_id]) for lease_id in held]))
        held = message.held
        for output in message.outputs:
            assert output.error is None, output.error
            times.setdefault(output.lease_id, [clock.now_s])
            if output.finish_reason is not None:
                times[output.lease_id].append(clock.now_s)
    return times


def engine_request(work: Work) -> EngineRequest:
    number = int(work.lease_id[1:])
    sampling = SamplingParams(max_tokens=work.num_output_tokens, seed=number, ignore_eos=True)
    prompt = [number * 1000 + place for place in range(work.num_prompt_tokens)]
    return EngineRequest(work.lease_id, prompt, sampling, work.stamp, work.policy, cache_salt=work.lease_id)


long_shapes = st.tuples(st.floats(0, 60), st.integers(2, 40), st.integers(1, 30), st.sampled_from([0, 0, 8, 20]))


@given(st.lists(long_shapes, min_size=1, max_size=10), st.integers(18, 60), st.sampled_from([None, 1.2, 2.0]))
@example([(0.0, 30, 1, 0), (24.0, 40, 30, 20), (59.0, 40, 30, 8), (60.0, 40, 1, 20)], 20, 1.2)
def test_a_replica_is_the_same_as_the_engines_own_loop(
    drawn: list[Shape], num_blocks: int, stretch: float | None
) -> None:
    work = [coming(number, at_s, *lengths) for number, (at_s, *lengths) in enumerate(drawn)]
    shape = make_shape(max_num_seqs=3, num_blocks=num_blocks, preemption="recompute", max_model_len=num_blocks * 4)
    limits = replace(shape.limits, max_decode_stretch=stretch)
    shape = replace(shape, limits=limits, max_skip=1 if stretch else shape.max_skip)
    cost = StepCostModel(base_s=0.5, prefill_token_s=0.03, decode_seq_s=0.1)
    twin = play(make_replica(shape, EngineModel(cost)), work)
    loop = play_the_loop(shape, cost, work)
    assert twin.keys() == loop.keys()
    for lease_id, times in twin.items():
        assert times == pytest.approx(loop[lease_id])
