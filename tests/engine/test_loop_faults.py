"""What the engine cannot take, and an engine that fails: who ends with the reason, and who goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.loop import EngineFailed, EngineLoop
from engine.protocol import Chunk, CommandMessage, EngineRequest, FinishReason, Sampled
from tests.engine.factories import make_config, make_loop, make_request, run_to_end
from tests.engine.fake_answers import Saboteur, reasons


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
    assert reasons(outputs) == [FinishReason.LOST] * 2
    assert reason in (outputs[0].error or "")
    loop.check_idle()
