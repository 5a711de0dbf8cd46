"""The engine loop over the fake engine: who joins, who leaves, and that every way gives the same answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backends.fake import fake_token
from engine.loop import EngineFailed, EngineLoop
from engine.protocol import Chunk, CommandMessage, EngineRequest, FinishReason, Sampled, SequenceOutput, TokenLogprob
from engine.step import arrange
from scheduling.score import ScorePolicy
from tests.engine.factories import make_config, make_engine, make_loop, make_request, run_to_end, tokens_of


def expected_tokens(request: EngineRequest, count: int) -> list[int]:
    start = len(request.prompt_token_ids) + len(request.output_token_ids)
    return [fake_token(request.sampling.seed, position) for position in range(start, start + count)]


def reasons(outputs: list[SequenceOutput]) -> list[FinishReason]:
    return [output.finish_reason for output in outputs if output.finish_reason is not None]


class Saboteur:
    """A fake engine whose results can be changed on their way out."""

    def __init__(self) -> None:
        self._engine = make_engine()
        self.capacity = self._engine.capacity
        self.chunks: list[list[Chunk]] = []

    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        self.chunks.append(chunks)
        return [self.change(sampled) for sampled in self._engine.execute(chunks)]

    def change(self, sampled: Sampled) -> Sampled:
        return sampled

    def close(self) -> None: ...


def test_a_request_gets_its_tokens_one_a_step_and_one_finish_reason() -> None:
    loop, request = make_loop(), make_request(max_tokens=3)
    outputs = run_to_end(loop, request)["lease-1"]
    assert [output.token_ids for output in outputs] == [[token] for token in expected_tokens(request, 3)]
    assert reasons(outputs) == [FinishReason.LENGTH]
    assert (loop.stats.num_steps, loop.stats.prompt_tokens, loop.stats.generation_tokens) == (3, 10, 3)
    loop.check_idle()


def test_sixteen_concurrent_requests_take_hardly_more_steps_than_the_longest_alone() -> None:
    requests = [make_request(str(i), num_prompt_tokens=20 + i, max_tokens=40 + 2 * i, seed=i) for i in range(16)]
    alone, together = make_loop(), make_loop()
    run_to_end(alone, requests[-1])
    run_to_end(together, *requests)
    assert together.stats.num_steps <= 1.2 * alone.stats.num_steps


def test_requests_join_and_leave_the_batch_at_any_step() -> None:
    loop = make_loop()
    loop.apply(CommandMessage(added=[make_request("long", max_tokens=6)]))
    loop.step()
    loop.apply(CommandMessage(added=[make_request("short", max_tokens=2)]))
    batches = [[output.lease_id for output in loop.step().outputs] for _ in range(4)]
    assert batches == [["long", "short"], ["long", "short"], ["long"], ["long"]]


def test_one_message_a_step_speaks_for_the_whole_batch_and_carries_the_gauges() -> None:
    loop = make_loop(max_num_seqs=2)
    loop.apply(CommandMessage(added=[make_request(str(i)) for i in range(3)]))
    message = loop.step()
    assert len(message.outputs) == 2
    assert (message.stats.num_running, message.stats.num_waiting, message.stats.kv_blocks_used) == (2, 1, 2)


def test_a_long_prompt_is_computed_in_chunks_beside_the_decodes() -> None:
    engine = Saboteur()
    loop = EngineLoop(engine, make_config(max_num_batched_tokens=512))
    loop.apply(CommandMessage(added=[make_request("short", num_prompt_tokens=2, max_tokens=8)]))
    loop.step()
    loop.apply(CommandMessage(added=[make_request("long", num_prompt_tokens=200, max_tokens=2)]))
    loop.step()
    assert [(chunk.seq_id, len(chunk.token_ids), chunk.samples) for chunk in engine.chunks[1]] == [
        ("short", 1, True),
        ("long", 200, True),
    ]
    chunked = run_to_end(make_loop(max_num_batched_tokens=7), make_request("long", num_prompt_tokens=200, max_tokens=2))
    assert tokens_of(chunked["long"]) == [fake_token(1, 200), fake_token(1, 201)]


def test_a_stop_token_ends_the_answer_and_is_part_of_it() -> None:
    request = make_request(max_tokens=9, stop_token_ids=(fake_token(1, 12),))
    outputs = run_to_end(make_loop(), request)["lease-1"]
    assert (tokens_of(outputs), reasons(outputs)) == (expected_tokens(request, 3), [FinishReason.STOP])


def test_the_models_own_end_counts_unless_it_is_ignored() -> None:
    loop = make_loop(make_engine(eos_token_ids=(fake_token(1, 11),)))
    outputs = run_to_end(loop, make_request("a", max_tokens=4), make_request("b", max_tokens=4, ignore_eos=True))
    assert (len(tokens_of(outputs["a"])), reasons(outputs["a"])) == (2, [FinishReason.STOP])
    assert (len(tokens_of(outputs["b"])), reasons(outputs["b"])) == (4, [FinishReason.LENGTH])


def test_an_ignored_end_stays_ignored_where_it_is_named_again_but_other_stops_count() -> None:
    end, other = fake_token(1, 11), fake_token(1, 12)
    loop = make_loop(make_engine(eos_token_ids=(end,)))
    outputs = run_to_end(loop, make_request(max_tokens=9, ignore_eos=True, stop_token_ids=(end, other)))["lease-1"]
    assert (len(tokens_of(outputs)), reasons(outputs)) == (3, [FinishReason.STOP])


def test_no_stop_token_ends_an_answer_before_min_tokens() -> None:
    request = make_request(max_tokens=9, min_tokens=2, stop_token_ids=(fake_token(1, 11), fake_token(1, 13)))
    assert len(tokens_of(run_to_end(make_loop(), request)["lease-1"])) == 4


def test_the_context_ends_an_answer_before_max_tokens() -> None:
    loop = make_loop(max_model_len=12)
    outputs = run_to_end(loop, make_request(num_prompt_tokens=10, max_tokens=100))["lease-1"]
    assert (len(tokens_of(outputs)), reasons(outputs)) == (2, [FinishReason.LENGTH])


@pytest.mark.parametrize("num_done", [1, 4])
def test_a_resumed_request_goes_on_at_its_positions(num_done: int) -> None:
    request = make_request(max_tokens=5)
    whole = tokens_of(run_to_end(make_loop(), request)["lease-1"])
    resumed = replace(request, output_token_ids=whole[:num_done])
    assert tokens_of(run_to_end(make_loop(), resumed)["lease-1"]) == whole[num_done:]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (make_request(output=[7, 8, 9], max_tokens=3), FinishReason.LENGTH),
        (make_request(output=[7, 8], stop_token_ids=(8,)), FinishReason.STOP),
        (make_request(max_tokens=0), FinishReason.LENGTH),
    ],
)
def test_a_request_that_is_already_complete_ends_at_once(request_: EngineRequest, reason: FinishReason) -> None:
    loop = make_loop()
    outputs = run_to_end(loop, request_)["lease-1"]
    assert (tokens_of(outputs), reasons(outputs), loop.stats.num_steps) == ([], [reason], 0)


def test_cancelling_frees_the_blocks_at_once_and_is_confirmed() -> None:
    loop = make_loop()
    loop.apply(CommandMessage(added=[make_request("a"), make_request("b")]))
    loop.step()
    loop.apply(CommandMessage(cancelled=["a", "unknown"]))
    assert loop.stats.kv_blocks_used == 1
    ends = [(output.lease_id, output.finish_reason) for output in loop.step().outputs]
    assert ends == [("a", FinishReason.CANCELLED), ("b", None)]


def test_the_last_cancellation_is_confirmed_without_another_step() -> None:
    loop = make_loop()
    loop.apply(CommandMessage(added=[make_request()]))
    loop.step()
    loop.apply(CommandMessage(cancelled=["lease-1"]))
    assert loop.has_work
    message = loop.step()
    assert (reasons(message.outputs), message.stats.num_steps) == ([FinishReason.CANCELLED], 1)
    assert not loop.has_work
    loop.check_idle()


def test_a_request_may_be_cancelled_in_the_command_that_adds_it() -> None:
    loop = make_loop()
    loop.apply(CommandMessage(added=[make_request("a")], cancelled=["a"]))
    assert reasons(loop.step().outputs) == [FinishReason.CANCELLED]
    assert loop.stats.num_steps == 0


def test_adding_a_lease_again_changes_nothing() -> None:
    loop, request = make_loop(), make_request(max_tokens=3)
    loop.apply(CommandMessage(added=[request]))
    assert len(tokens_of(run_to_end(loop, request)["lease-1"])) == 3


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (make_request(prompt=[49_152]), "prompt_token_ids: expected token ids from 0 to 49151, got 49152"),
        (make_request(prompt=[-1]), "prompt_token_ids: expected token ids from 0 to 49151, got -1"),
        (make_request(output=[49_152]), "output_token_ids: expected token ids"),
        (make_request(logit_bias=((49_152, 1.0),)), "logit_bias: expected token ids"),
        (make_request(stop_token_ids=(49_152,)), "stop_token_ids: expected token ids"),
        (make_request(num_prompt_tokens=256), "256 tokens and an answer need 257; max_model_len is 256"),
        (replace(make_request(), prompt_token_ids=[]), "expected at least one token, got none"),
    ],
)
def test_what_the_engine_cannot_take_ends_with_the_reason_and_the_others_go_on(
    request_: EngineRequest, message: str
) -> None:
    outputs = run_to_end(make_loop(), request_, make_request("other"))
    assert reasons(outputs["lease-1"]) == [FinishReason.ERROR]
    assert message in (outputs["lease-1"][0].error or "")
    assert reasons(outputs["other"]) == [FinishReason.LENGTH]


class FailsOne(Saboteur):
    """Finds NaN in the logits of sequence `a` at its third token."""

    def change(self, sampled: Sampled) -> Sampled:
        return Sampled("a", None, error="NaN") if sampled.seq_id == "a" and len(self.chunks) == 3 else sampled


def test_a_fault_in_one_sequence_ends_that_one_and_its_blocks_are_not_reused() -> None:
    loop = EngineLoop(FailsOne(), make_config())
    outputs = run_to_end(loop, make_request("a", num_prompt_tokens=40), make_request("b"))
    assert (reasons(outputs["a"]), outputs["a"][-1].error) == ([FinishReason.ERROR], "NaN")
    assert reasons(outputs["b"]) == [FinishReason.LENGTH]
    loop.check_idle()
    assert run_to_end(loop, make_request("a", num_prompt_tokens=40))["a"][0].num_cached_tokens == 0


class Breaks(Saboteur):
    def change(self, sampled: Sampled) -> Sampled:
        raise ConnectionError("rank 1 is gone")


class SamplesNothing(Saboteur):
    def execute(self, chunks: list[Chunk]) -> list[Sampled]:
        return []


@pytest.mark.parametrize(
    ("engine", "reason"), [(Breaks(), "rank 1 is gone"), (SamplesNothing(), "sampled nothing for")]
)
def test_a_broken_engine_ends_every_sequence_and_the_loop(engine: Saboteur, reason: str) -> None:
    loop = EngineLoop(engine, make_config(max_num_seqs=1))
    loop.apply(CommandMessage(added=[make_request("running"), make_request("waiting")]))
    with pytest.raises(EngineFailed) as failure:
        loop.step()
    outputs = failure.value.last_message.outputs
    assert sorted(output.lease_id for output in outputs) == ["running", "waiting"]
    assert reasons(outputs) == [FinishReason.ERROR] * 2
    assert reason in (outputs[0].error or "")
    loop.check_idle()


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
    max_num_seqs=st.integers(1, 5),
    max_num_batched_tokens=st.sampled_from([1, 5, 64]),
)
def test_every_answer_is_the_same_whatever_the_batch_the_cache_and_the_preemptions(
    shapes: list[tuple[int, int, int, int]], kv_cache_tokens: int, max_num_seqs: int, max_num_batched_tokens: int
) -> None:
    loop = make_loop(
        kv_cache_tokens=kv_cache_tokens, max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens
    )
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


def test_a_newer_policy_orders_the_batch_anew() -> None:
    loop = make_loop(max_num_seqs=1)
    by_priority, by_arrival = ScorePolicy(1, 0, epoch=1), ScorePolicy(0, 1, epoch=2)
    loop.apply(
        CommandMessage(added=[make_request("running", arrival_s=0, policy=by_priority, priority=9, max_tokens=2)])
    )
    loop.step()
    waiting = [
        make_request("urgent", arrival_s=9, priority=3, policy=by_priority),
        make_request("old", arrival_s=1, policy=by_arrival),
    ]
    loop.apply(CommandMessage(added=waiting))
    loop.step()
    assert [output.lease_id for output in loop.step().outputs] == ["old"]
