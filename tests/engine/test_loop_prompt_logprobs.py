"""Prompt logprobs through the engine loop: told once and whole, however the prompt was cut."""

from __future__ import annotations

import pytest

from engine.loop import EngineLoop
from engine.protocol import CommandMessage, TokenLogprob
from engine.step import arrange
from tests.engine.factories import make_config, make_loop, make_request, run_to_end, tokens_of
from tests.engine.fake_answers import Saboteur, expected_tokens


@pytest.mark.parametrize("max_tokens", [0, 3])
def test_prompt_logprobs_come_once_and_whole_from_all_chunks(max_tokens: int) -> None:
    loop = make_loop(max_num_batched_tokens=7)
    run_to_end(loop, make_request("cached", num_prompt_tokens=40))
    request = make_request(num_prompt_tokens=40, max_tokens=max_tokens, prompt_logprobs=1, logprobs=0)
    outputs = run_to_end(loop, request)["lease-1"]
    found = [output.prompt_logprobs for output in outputs if output.prompt_logprobs is not None]
    assert [[one.token_id for one in logprobs] for logprobs in found] == [request.prompt_token_ids[1:]]
    assert outputs[0].prompt_logprobs is not None
    assert len(tokens_of(outputs)) == max_tokens
    assert [one.token_id for output in outputs for one in output.logprobs] == tokens_of(outputs)


def test_a_step_computes_the_logits_of_at_most_256_prompt_tokens_and_the_answer_is_the_same() -> None:
    engine = Saboteur()
    loop = EngineLoop(engine, make_config(max_model_len=2048, max_num_batched_tokens=4096))
    requests = [make_request(name, num_prompt_tokens=200, prompt_logprobs=1, max_tokens=3) for name in ("a", "b")]
    outputs = run_to_end(loop, *requests)
    scored = [arrange(chunks, 16).step.rows.size - sum(chunk.samples for chunk in chunks) for chunks in engine.chunks]
    assert max(scored) <= 256
    assert sum(scored) == 2 * 199
    for request in requests:
        found = outputs[request.lease_id]
        assert [one.token_id for one in found[0].prompt_logprobs or []] == request.prompt_token_ids[1:]
        assert tokens_of(found) == expected_tokens(request, 3)


def test_prompt_logprobs_stay_whole_when_a_preemption_cuts_them() -> None:
    loop = make_loop(max_num_seqs=1, max_num_batched_tokens=16)
    loop.apply(CommandMessage(added=[make_request(num_prompt_tokens=40, max_tokens=2, prompt_logprobs=0)]))
    loop.step()
    outputs = run_to_end(loop, make_request("urgent", priority=50))["lease-1"]
    assert loop.stats.num_preemptions == 1
    found: list[TokenLogprob] = outputs[0].prompt_logprobs or []
    assert [one.token_id for one in found] == list(range(2, 41))


def test_prompt_logprobs_that_were_told_stay_as_they_are_when_the_prompt_is_computed_again() -> None:
    loop = make_loop(max_num_seqs=1, max_num_batched_tokens=16)
    loop.apply(CommandMessage(added=[make_request(num_prompt_tokens=40, max_tokens=9, prompt_logprobs=0)]))
    told = [loop.step() for _ in range(3)][-1].outputs[0].prompt_logprobs
    loop.apply(CommandMessage(added=[make_request("urgent", priority=50, max_tokens=1)]))
    loop.step()
    loop.step()
    assert loop.stats.num_preemptions == 1
    assert told is not None
    assert [one.token_id for one in told] == list(range(2, 41))
