"""The engine loop over the fake engine: who joins, who leaves, and how each answer ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.backends.fake import fake_token
from engine.loop import EngineFailed, EngineLoop
from engine.protocol import Chunk, CommandMessage, EngineRequest, FinishReason, Sampled
from scheduling.score import ScorePolicy, Stamp
from tests.engine.factories import make_config, make_engine, make_loop, make_request, run_to_end, tokens_of
from tests.engine.fake_answers import Saboteur, expected_tokens, reasons


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


def test_whom_a_newcomer_displaced_is_told_and_waits_for_the_word_to_go_on() -> None:
    loop = make_loop(max_num_seqs=1)
    loop.apply(CommandMessage(added=[make_request("bulk", max_tokens=60)], holds_displaced=True))
    for _ in range(40):
        loop.step()
    loop.apply(CommandMessage(added=[make_request("urgent", max_tokens=2, priority=50)]))
    assert loop.step().held == ["bulk"]
    loop.step()
    assert (loop.has_work, loop.is_idle) == (False, False)
    loop.apply(CommandMessage(resumed=[("bulk", Stamp(0, 0))]))
    assert [output.lease_id for output in loop.step().outputs] == ["bulk"]


def test_all_who_are_held_go_on_by_one_word_though_others_are_held_from_then_on() -> None:
    loop = make_loop(max_num_seqs=1)
    loop.apply(CommandMessage(added=[make_request("bulk", max_tokens=60)], holds_displaced=True))
    for _ in range(40):
        loop.step()
    loop.apply(CommandMessage(added=[make_request("urgent", max_tokens=2, priority=50)]))
    assert loop.step().held == ["bulk"]
    loop.step()
    loop.apply(CommandMessage(holds_displaced=True, resumes_all=True))
    assert [output.lease_id for output in loop.step().outputs] == ["bulk"]


def test_a_long_prompt_counts_as_it_is_computed_and_each_token_once() -> None:
    loop = make_loop(max_num_batched_tokens=16)
    loop.apply(CommandMessage(added=[make_request("long", num_prompt_tokens=40, max_tokens=3)]))
    counted = []
    while loop.has_work:
        loop.step()
        counted.append(loop.stats.prompt_tokens)
    assert counted == [16, 32, 40, 40, 40]


def test_one_that_moves_ends_here_as_moved_with_what_it_was_served() -> None:
    loop = make_loop(max_num_seqs=1)
    loop.apply(CommandMessage(added=[make_request("bulk", num_prompt_tokens=10, max_tokens=60)]))
    for _ in range(3):
        loop.step()
    loop.apply(CommandMessage(moved=["bulk", "unknown"]))
    [output] = loop.step().outputs
    assert (output.finish_reason, output.num_served_tokens) == (FinishReason.MOVED, 12)
    assert loop.is_idle


def test_suspects_are_named_before_the_step_that_begins_them_and_one_at_a_time() -> None:
    told: list[list[str]] = []
    engine = make_engine()
    loop = EngineLoop(engine, make_config(), tell=lambda message: told.append(message.entering))
    suspects = [replace(make_request(name, max_tokens=3), is_suspect=True) for name in ("s1", "s2")]
    loop.apply(CommandMessage(added=[make_request("well", max_tokens=3), *suspects]))
    began = [{output.lease_id for output in loop.step().outputs} for _ in range(2)]
    assert told == [["s1"], ["s2"]]
    assert began == [{"well", "s1"}, {"well", "s1", "s2"}]
    loop.step()
    assert len(told) == 2


def test_an_engine_that_fails_as_a_whole_loses_its_sequences() -> None:
    class Broken(Saboteur):
        def execute(self, chunks: list[Chunk]) -> list[Sampled]:
            raise RuntimeError("the device is gone")

    loop = EngineLoop(Broken(), make_config())
    loop.apply(CommandMessage(added=[make_request("a"), make_request("b")]))
    with pytest.raises(EngineFailed) as failed:
        loop.step()
    assert {output.finish_reason for output in failed.value.last_message.outputs} == {FinishReason.LOST}
