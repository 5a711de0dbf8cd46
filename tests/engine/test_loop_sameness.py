"""Preempted, resumed, cached or batched in any way: the loop gives every request the same answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol import CommandMessage, FinishReason, SequenceOutput
from tests.engine.factories import make_loop, make_request, run_to_end, tokens_of
from tests.engine.fake_answers import expected_tokens, reasons
from tests.engine.remembering import RememberingEngine


@pytest.mark.parametrize("num_done", [1, 4])
def test_a_resumed_request_goes_on_at_its_positions(num_done: int) -> None:
    request = make_request(max_tokens=5)
    whole = tokens_of(run_to_end(make_loop(), request)["lease-1"])
    resumed = replace(request, output_token_ids=whole[:num_done])
    assert tokens_of(run_to_end(make_loop(), resumed)["lease-1"]) == whole[num_done:]


def test_an_urgent_request_parks_a_bulk_one_whose_answer_stays_the_same() -> None:
    bulk, urgent = make_request("bulk", max_tokens=20), make_request("urgent", priority=50, max_tokens=3)
    loop = make_loop(max_num_seqs=1)
    loop.apply(CommandMessage(added=[bulk]))
    first = [loop.step() for _ in range(4)]
    loop.apply(CommandMessage(added=[urgent]))
    message = loop.step()
    assert [output.lease_id for output in message.outputs] == ["urgent"]
    assert (message.stats.num_parked, message.stats.num_preemptions) == (1, 1)
    rest = run_to_end(loop)["bulk"]
    assert [token for m in first for token in tokens_of(m.outputs)] + tokens_of(rest) == expected_tokens(bulk, 20)


@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 30), st.integers(-10, 10), st.integers(0, 12)),
        min_size=1,
        max_size=10,
    ),
    kv_cache_tokens=st.sampled_from([80, 128, 1024]),
    settings=st.fixed_dictionaries(
        {
            "max_num_seqs": st.integers(1, 5),
            "max_num_batched_tokens": st.sampled_from([1, 5, 64]),
            "preemption": st.sampled_from(["auto", "swap", "recompute", "off"]),
            "swap_space_tokens": st.sampled_from([0, 48, 1024]),
            "prefix_caching": st.booleans(),
        }
    ),
)
def test_every_answer_is_the_same_whatever_the_batch_the_cache_and_the_preemptions(
    shapes: list[tuple[int, int, int, int]], kv_cache_tokens: int, settings: dict[str, Any]
) -> None:
    """And no step attends to a block that holds anything but the sequence's own tokens."""
    settings |= {"kv_cache_tokens": kv_cache_tokens, "preemption_margin_levels": 1.0}
    loop = make_loop(RememberingEngine(**settings), **settings)
    requests = {
        str(i): make_request(str(i), num_prompt_tokens=length, max_tokens=count, priority=priority, seed=i)
        for i, (length, count, priority, _) in enumerate(shapes)
    }
    joins = {str(i): step for i, (_, _, _, step) in enumerate(shapes)}
    outputs: dict[str, list[SequenceOutput]] = {lease_id: [] for lease_id in requests}
    for step in range(13):
        loop.apply(CommandMessage(added=[requests[lease_id] for lease_id, joined in joins.items() if joined == step]))
        for output in loop.step().outputs:
            outputs[output.lease_id].append(output)
    for lease_id, rest in run_to_end(loop).items():
        outputs[lease_id] += rest
    for lease_id, request in requests.items():
        assert tokens_of(outputs[lease_id]) == expected_tokens(request, request.sampling.max_tokens)
        assert reasons(outputs[lease_id]) == [FinishReason.LENGTH]
    loop.check_idle()


@pytest.mark.parametrize("prefix_caching", [True, False])
@pytest.mark.parametrize(("preemption", "is_swapped"), [("swap", True), ("recompute", False)])
def test_the_counters_tell_how_blocks_were_taken_away_and_given_back(
    preemption: str, is_swapped: bool, prefix_caching: bool
) -> None:
    settings = {"max_num_seqs": 1, "preemption": preemption, "prefix_caching": prefix_caching}
    engine = RememberingEngine(**settings)
    loop = make_loop(engine, **settings)
    loop.apply(CommandMessage(added=[make_request("bulk", num_prompt_tokens=40, max_tokens=9)]))
    for _ in range(4):
        loop.step()
    outputs = run_to_end(loop, make_request("urgent", priority=50, max_tokens=2))
    stats = loop.stats
    assert (stats.num_preemptions, stats.num_preemptions_by_swap) == (1, int(is_swapped))
    assert stats.num_preemptions_by_recompute == int(not is_swapped)
    num_kept = 2 if prefix_caching else 0  # of three blocks: 43 tokens were computed
    assert stats.num_recomputed_tokens == (0 if is_swapped else 43 - 16 * num_kept)
    assert stats.num_blocks_swapped_out == (3 if is_swapped else 0)
    assert stats.num_blocks_swapped_in == (3 - num_kept if is_swapped else 0)
    assert engine.num_copied == stats.num_blocks_swapped_out + stats.num_blocks_swapped_in
    assert reasons(outputs["bulk"]) == [FinishReason.LENGTH]
    loop.check_idle()


def test_a_second_request_reuses_the_prefix_of_the_first_unless_caching_is_off() -> None:
    requests = make_request("a", num_prompt_tokens=40), make_request("b", num_prompt_tokens=40)
    for prefix_caching, num_cached in ((True, 32), (False, 0)):
        loop = make_loop(prefix_caching=prefix_caching)
        run_to_end(loop, requests[0])
        assert run_to_end(loop, requests[1])["b"][0].num_cached_tokens == num_cached


def test_another_salt_reuses_nothing() -> None:
    loop = make_loop()
    run_to_end(loop, replace(make_request("a", num_prompt_tokens=40), cache_salt="one"))
    assert (
        run_to_end(loop, replace(make_request("b", num_prompt_tokens=40), cache_salt="two"))["b"][0].num_cached_tokens
        == 0
    )
