"""The engine loop at the edge of its cache: how long an answer gets, and what is refused."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from engine.backends.fake import FakeEngine
from engine.loop import EngineLoop
from engine.protocol import EngineCapacity, FinishReason
from tests.engine.factories import make_config, make_engine, make_loop, make_request, run_to_end, tokens_of


class PromisesTooMuch(FakeEngine):
    """Offers a longer context than its cache holds."""

    def capacity(self) -> EngineCapacity:
        return replace(super().capacity(), max_model_len=256, num_blocks=15)


def test_what_no_cache_of_this_size_can_hold_ends_with_the_reason_and_the_others_go_on() -> None:
    loop = EngineLoop(PromisesTooMuch(make_config(fake_step_s=0.0)), make_config())
    outputs = run_to_end(loop, make_request("large", num_prompt_tokens=200, max_tokens=50), make_request("other"))
    assert outputs["large"][-1].finish_reason is FinishReason.ERROR
    assert "need 250 tokens, the largest replica holds 240" in (outputs["large"][-1].error or "")
    assert outputs["other"][-1].finish_reason is FinishReason.LENGTH


def test_an_answer_ends_where_the_cache_does() -> None:
    request = make_request("a", num_prompt_tokens=200, max_tokens=50)
    outputs = run_to_end(make_loop(kv_cache_tokens=240), request)["a"]
    assert (len(tokens_of(outputs)), outputs[-1].finish_reason) == (40, FinishReason.LENGTH)


@given(st.integers(2, 300), st.integers(2, 300), st.sampled_from([1, 7, 16]))
def test_a_sequence_as_long_as_the_capacity_says_is_served_to_its_end(
    kv_cache_tokens: int, max_model_len: int, block_size: int
) -> None:
    settings = {"kv_cache_tokens": kv_cache_tokens, "max_model_len": max_model_len, "block_size": block_size}
    longest = make_engine(**settings).capacity().max_model_len
    outputs = run_to_end(make_loop(**settings), make_request("a", num_prompt_tokens=1, max_tokens=longest - 1))["a"]
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert len(tokens_of(outputs)) == longest - 1
