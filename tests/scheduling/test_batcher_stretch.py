"""A prompt does not hold up the streams that run beside it by more than they are promised."""

from __future__ import annotations

import pytest

from scheduling.batch_plan import MIN_PREFILL_TOKENS, BatchLimits
from scheduling.batcher import Batcher
from scheduling.cost_model import EngineCosts
from tests.scheduling.batching import MARGIN, ids, make_batcher, make_sequence, run_step

LONG = 200
#: A decode step of 60 ms and a millisecond for each token of prefill.
COSTS = EngineCosts(prefill_token_s=0.001, decode_step_s=0.06)


def decoding(*names: str, stretch: float | None = 2.0, **priorities: float) -> Batcher:
    """A batcher whose sequences have all been prefilled. priorities: of more sequences, by name; else 0."""
    of_each = dict.fromkeys(names, 0.0) | priorities
    sequences = [make_sequence(name, max_num_tokens=40, priority=priority) for name, priority in of_each.items()]
    batcher = make_batcher(*sequences, max_num_batched_tokens=LONG, num_blocks=256, max_decode_stretch=stretch)
    run_step(batcher)
    return batcher


def prefill_beside(batcher: Batcher, costs: EngineCosts | None = COSTS, priority: float = 0) -> int:
    batcher.add(make_sequence("long", num_tokens=LONG, max_num_tokens=LONG + 1, priority=priority, arrival_s=1))
    plan = batcher.plan(costs)
    assert ids(plan.decode) == ["a"]
    return sum(part.num_tokens for part in plan.prefill)


def test_a_long_prompt_is_cut_so_that_the_step_takes_so_many_times_its_decodes() -> None:
    assert prefill_beside(decoding("a", stretch=2.0)) == 60
    assert prefill_beside(decoding("a", stretch=1.5)) == 30


def test_a_prompt_gets_on_however_short_the_decodes_are() -> None:
    assert prefill_beside(decoding("a", stretch=1.0)) == MIN_PREFILL_TOKENS


def test_several_prompts_share_what_the_decodes_bear_and_the_best_key_is_served_first() -> None:
    batcher = decoding("a", stretch=1.5)
    for arrival_s, name in enumerate(("first", "second", "third"), 1):
        batcher.add(make_sequence(name, num_tokens=40, max_num_tokens=41, arrival_s=arrival_s))

    plan = batcher.plan(COSTS)

    assert [(part.sequence.seq_id, part.num_tokens) for part in plan.prefill] == [("first", 40), ("second", 11)]


@pytest.mark.parametrize(("num_prompts", "num_tokens"), [(1, 30), (2, 42), (3, 51)])
def test_the_more_prompts_wait_the_more_the_decodes_bear_by_the_root(num_prompts: int, num_tokens: int) -> None:
    batcher = decoding("a", stretch=1.5)
    for index in range(num_prompts):
        batcher.add(make_sequence(f"{index}", num_tokens=40, max_num_tokens=41, arrival_s=index + 1))

    plan = batcher.plan(COSTS)

    assert sum(part.num_tokens for part in plan.prefill) == num_tokens


def test_a_prompt_longer_than_a_step_that_outranks_all_streams_is_not_cut_for_them() -> None:
    batcher = decoding("a")
    batcher.add(make_sequence("long", num_tokens=LONG + 1, max_num_tokens=LONG + 2, priority=MARGIN + 1, arrival_s=1))

    plan = batcher.plan(COSTS)

    assert ids(plan.decode) == ["a"]
    assert [part.num_tokens for part in plan.prefill] == [LONG - 1]


def test_a_prompt_that_outranks_all_streams_goes_alone_and_they_go_on_in_the_next_step() -> None:
    batcher = decoding("a")
    for arrival_s, priority in ((1.0, MARGIN + 1), (2.0, MARGIN + 1), (3.0, 0.0)):
        name = f"{priority:g} at {arrival_s:g}"
        batcher.add(make_sequence(name, num_tokens=150, max_num_tokens=151, priority=priority, arrival_s=arrival_s))

    first, second, third = run_step(batcher), run_step(batcher), run_step(batcher)

    assert (ids(first.decode), ids(first.prefill)) == ([], ["6 at 1", "6 at 2"])
    assert ids(second.decode) == ["a"]
    assert "6 at 2" in ids(second.prefill)
    assert ids(third.decode) == ["a"]


def test_prompts_that_outrank_all_streams_never_go_alone_twice_in_a_row() -> None:
    batcher = decoding("a", "b")
    decodes = []
    for step in range(6):
        name = f"urgent {step}"
        batcher.add(make_sequence(name, num_tokens=8, max_num_tokens=9, priority=MARGIN + 1, arrival_s=1))
        decodes.append(len(run_step(batcher).decode))

    assert decodes == [0, 2, 0, 2, 0, 2]


def test_streams_that_a_prompt_outranks_sit_out_a_step_and_its_peers_do_not() -> None:
    batcher = decoding("a", "b", peer=MARGIN + 1)
    batcher.add(make_sequence("urgent", num_tokens=50, max_num_tokens=52, priority=MARGIN + 1, arrival_s=1))

    first, second = run_step(batcher), run_step(batcher)

    assert (ids(first.decode), ids(first.prefill)) == (["peer"], ["urgent"])
    assert ids(second.decode) == ["peer", "urgent", "a", "b"]


def test_nobody_sits_out_where_a_prompt_would_take_its_peers_longer_than_a_step_may() -> None:
    costs = EngineCosts(prefill_token_s=0.001, decode_step_s=0.06)
    batcher = decoding("a", "b", stretch=1.5, peer=MARGIN + 1)
    bearable = costs.prefill_within(1.5 * costs.decodes_s(3) - costs.decodes_s(1))
    batcher.add(make_sequence("urgent", num_tokens=bearable + 1, max_num_tokens=90, priority=MARGIN + 1, arrival_s=1))

    plan = batcher.plan(costs)

    assert ids(plan.decode) == ["peer", "a", "b"]
    assert not plan.prefill[0].completes


def test_a_prompt_that_outranks_the_streams_by_the_margin_and_no_more_is_cut_for_them() -> None:
    assert prefill_beside(decoding("a"), priority=MARGIN) == 60


@pytest.mark.parametrize(("stretch", "costs"), [(None, COSTS), (2.0, EngineCosts())], ids=["no bound", "not measured"])
def test_without_a_bound_or_a_measurement_the_token_budget_alone_holds(
    stretch: float | None, costs: EngineCosts
) -> None:
    assert prefill_beside(decoding("a", stretch=stretch), costs) == LONG - 1


def test_a_prompt_alone_has_the_whole_budget() -> None:
    batcher = make_batcher(max_num_batched_tokens=LONG, num_blocks=256, max_decode_stretch=1.0)
    batcher.add(make_sequence("long", num_tokens=LONG, max_num_tokens=LONG + 1))

    assert [part.num_tokens for part in batcher.plan(COSTS).prefill] == [LONG]


def test_more_decodes_than_were_measured_bear_at_least_as_many_tokens_as_they_are() -> None:
    costs = EngineCosts(prefill_token_s=0.001, decode_step_s=0.002)

    assert costs.decodes_s(100) == pytest.approx(0.1)
    assert costs.decodes_s(1) == pytest.approx(0.002)


def test_a_prompt_deep_in_its_context_is_cut_shorter() -> None:
    costs = EngineCosts(prefill_token_s=0.001, decode_step_s=0.06, context_token_s=0.00001)
    batcher = decoding("a", stretch=2.0)
    batcher.add(make_sequence("long", num_tokens=LONG, max_num_tokens=LONG + 1, arrival_s=1))

    lengths = [part.num_tokens for _ in range(4) for part in run_step(batcher, costs).prefill]

    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == costs.prefill_within(0.06) < 60
    assert lengths[-1] < lengths[0] - 10


def test_a_stretch_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_decode_stretch: expected at least 1, got 0\.5"):
        BatchLimits(4, 64, max_decode_stretch=0.5)


def test_of_those_an_engine_may_have_died_of_one_is_begun_at_a_time() -> None:
    suspects = [make_sequence(name, num_tokens=6, max_num_tokens=9) for name in ("s1", "s2")]
    for each in suspects:
        each.is_suspect = True
    batcher = make_batcher(make_sequence("well"), *suspects)
    first = run_step(batcher)
    assert ids(first.prefill) == ["well", "s1"]
    suspects[0].is_suspect = False  # it has a token, and its engine lives
    second = run_step(batcher)
    assert (sorted(ids(second.decode)), ids(second.prefill)) == (["s1", "well"], ["s2"])


@pytest.mark.parametrize(("num_suspects", "num_tokens"), [(1, 30), (3, 51)])
def test_a_suspect_gets_on_as_fast_as_all_who_wait_for_it_to_would_together(num_suspects: int, num_tokens: int) -> None:
    batcher = decoding("a", stretch=1.5)
    for index in range(num_suspects):
        suspect = make_sequence(f"{index}", num_tokens=80, max_num_tokens=81, arrival_s=index + 1)
        suspect.is_suspect = True
        batcher.add(suspect)

    plan = batcher.plan(COSTS)

    assert [(part.sequence.seq_id, part.num_tokens) for part in plan.prefill] == [("0", num_tokens)]


def test_a_suspect_that_was_begun_is_not_left_for_a_better_one() -> None:
    suspects = [make_sequence("long", num_tokens=100, max_num_tokens=120), make_sequence("better", priority=50)]
    for each in suspects:
        each.is_suspect = True
    batcher = make_batcher(suspects[0], max_num_batched_tokens=64)
    assert ids(run_step(batcher).prefill) == ["long"]
    batcher.add(suspects[1])
    assert ids(run_step(batcher).prefill) == ["long"]
    suspects[0].is_suspect = False
    assert ids(run_step(batcher).prefill) == ["better"]
