"""Grammars in the loop and in the sampler: who is bound by one, who is not, and what is left of it at the end."""

from __future__ import annotations

import json
import math
import weakref
from dataclasses import replace

import jsonschema
import pytest
import torch

from engine.grammar import Grammars, Guide
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, FinishReason, SamplingParams
from engine.sampler import SampleRow, choose_on_device, sample
from tests.engine.factories import make_config, make_engine, make_guides, make_request, run_to_end, tokens_of
from tests.engine.fake_answers import reasons
from tests.engine.grammars import END, NUM_TOKENS, PERSON, make_grammars, of_schema, text_of

PEOPLE = of_schema(PERSON)


def make_loop(grammars: Grammars | None = None, **settings: object) -> EngineLoop:
    return EngineLoop(
        make_engine(eos_token_ids=(END,), **settings), make_config(**settings), grammars or make_grammars()
    )


def guided_row(guide: Guide | None, **sampling: object) -> SampleRow:
    params = SamplingParams(max_tokens=100, seed=3, **sampling)  # type: ignore[arg-type]
    return SampleRow("row", params, [5, 6], 2, guide)


@pytest.mark.parametrize("seed", range(5))
def test_an_answer_that_has_a_grammar_fits_it_and_ends_by_itself(seed: int) -> None:
    [outputs] = run_to_end(make_loop(), make_request(max_tokens=240, seed=seed, grammar=PEOPLE)).values()
    assert reasons(outputs)[-1] is FinishReason.STOP
    jsonschema.validate(json.loads(text_of(tokens_of(outputs))), PERSON)


def test_the_limit_of_tokens_cuts_an_answer_that_has_a_grammar() -> None:
    [outputs] = run_to_end(make_loop(), make_request(max_tokens=3, grammar=PEOPLE)).values()
    assert reasons(outputs)[-1] is FinishReason.LENGTH


@pytest.mark.parametrize("num_before", [1, 4, 9])
def test_an_answer_goes_on_elsewhere_under_its_grammar_with_the_tokens_that_it_would_have_had(num_before: int) -> None:
    request = make_request(max_tokens=240, grammar=PEOPLE)
    whole = tokens_of(run_to_end(make_loop(), request)["lease-1"])
    moved = replace(request, output_token_ids=whole[:num_before])
    assert tokens_of(run_to_end(make_loop(), moved)["lease-1"]) == whole[num_before:]


def test_an_answer_that_was_preempted_goes_on_under_its_grammar() -> None:
    request = make_request("a", max_tokens=60, grammar=of_schema({"type": "string", "minLength": 500}))
    whole = tokens_of(run_to_end(make_loop(), request)["a"])
    crowded = make_loop(block_size=16, kv_cache_tokens=128, max_model_len=128)
    outputs = run_to_end(crowded, request, make_request("b", num_prompt_tokens=20, max_tokens=80, priority=1))
    assert crowded.stats.num_preemptions > 0
    assert tokens_of(outputs["a"]) == whole


def test_an_engine_without_grammars_refuses_what_has_one_and_serves_the_others() -> None:
    loop = EngineLoop(make_engine(), make_config())
    outputs = run_to_end(loop, make_request(grammar=PEOPLE), make_request("other"))
    assert outputs["lease-1"][0].error == "grammar: this engine follows none"
    assert reasons(outputs["lease-1"]) == [FinishReason.ERROR]
    assert reasons(outputs["other"]) == [FinishReason.LENGTH]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (make_request(grammar="nonsense"), FinishReason.GRAMMAR),
        (make_request(grammar=PEOPLE, output=[70]), FinishReason.ERROR),
    ],
    ids=["a grammar that nothing can follow", "tokens that do not fit"],
)
def test_a_grammar_that_cannot_be_followed_ends_its_sequence_alone_and_says_whose_fault_it_is(
    request_: object, reason: FinishReason
) -> None:
    loop = make_loop()
    outputs = run_to_end(loop, request_, make_request("other"))  # type: ignore[arg-type]
    assert (reasons(outputs["lease-1"]), bool(outputs["lease-1"][0].error)) == ([reason], True)
    assert reasons(outputs["other"]) == [FinishReason.LENGTH]
    loop.check_idle()


def test_a_grammar_that_passes_the_limits_within_its_answer_ends_that_one_and_is_the_cause() -> None:
    loop = make_loop(max_model_len=1024, kv_cache_tokens=2048)
    growing = of_schema({"type": "string", "pattern": "^([ab]*a[ab]{300}b){20}$"})
    outputs = run_to_end(loop, make_request(max_tokens=1000, grammar=growing), make_request("other"))
    assert len(tokens_of(outputs["lease-1"])) > 1
    assert (reasons(outputs["lease-1"]), bool(outputs["lease-1"][-1].error)) == ([FinishReason.GRAMMAR], True)
    assert reasons(outputs["other"]) == [FinishReason.LENGTH]
    loop.check_idle()


class RememberingGrammars(Grammars):
    """Knows which of its guides are still held."""

    def __init__(self) -> None:
        super().__init__(make_grammars()._load)
        self.given: list[weakref.ref[Guide]] = []

    def guide(self, grammar: str, output_token_ids: object = ()) -> Guide:
        guide = super().guide(grammar, output_token_ids)  # type: ignore[arg-type]
        self.given.append(weakref.ref(guide))
        return guide


@pytest.mark.parametrize("ends", ["by itself", "cancelled", "moved", "before it began"])
def test_nothing_is_kept_of_a_guide_once_its_sequence_has_ended(ends: str) -> None:
    grammars = RememberingGrammars()
    loop = make_loop(grammars)
    request = make_request(max_tokens=240, grammar=PEOPLE)
    loop.apply(
        CommandMessage(added=[replace(request, output_token_ids=[END]) if ends == "before it began" else request])
    )
    make_guides(loop)
    loop.step()
    if ends == "cancelled":
        loop.apply(CommandMessage(cancelled=["lease-1"]))
    if ends == "moved":
        loop.apply(CommandMessage(moved=["lease-1"]))
    while loop.has_work:
        loop.step()
    assert [guide() for guide in grammars.given] in ([None], [])


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {}, {"top_p": 0.5}, {"top_k": 3}, {"min_p": 0.2}])
@pytest.mark.parametrize("unwanted", [0.0, 50.0], ids=["no wish", "wishes for what is not allowed"])
def test_a_row_gets_only_what_its_guide_allows_and_the_rows_beside_it_what_they_would_have_got(
    sampling: dict[str, object], unwanted: float
) -> None:
    guide = make_grammars().guide(PEOPLE)
    logits = torch.randn(3, NUM_TOKENS, generator=torch.Generator().manual_seed(4))
    logits[:, ~torch.from_numpy(guide.allowed(NUM_TOKENS))] += unwanted
    before = logits.clone()
    beside = [guided_row(None, **sampling), guided_row(None, **sampling)]
    alone = sample(logits[[0, 2]], beside)
    first, middle, last = sample(logits, [beside[0], guided_row(guide, **sampling), beside[1]])
    assert (first, last) == tuple(alone)
    assert middle.token_id is not None
    assert guide.allowed(NUM_TOKENS)[middle.token_id]
    assert torch.equal(logits, before)


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {}, {"top_p": 0.5}, {"top_k": 3}, {"min_p": 0.2}])
def test_what_a_guide_leaves_is_all_that_a_device_chooses_from(sampling: dict[str, object]) -> None:
    guide = make_grammars().guide(PEOPLE)
    allowed = guide.allowed(NUM_TOKENS)
    logits = torch.randn(2, NUM_TOKENS, generator=torch.Generator().manual_seed(4))
    logits[1, ~torch.from_numpy(allowed)] = -math.inf
    free, bound = choose_on_device(logits, [guided_row(None, **sampling), guided_row(guide, **sampling)])
    assert free is not None
    assert bound is not None
    assert allowed[bound]


def test_bias_and_penalties_bring_nothing_in_that_the_grammar_leaves_out() -> None:
    row = guided_row(make_grammars().guide(PEOPLE), logit_bias=((70, 100.0),), repetition_penalty=5.0, temperature=0.0)
    [found] = sample(torch.zeros(1, NUM_TOKENS), [row])
    assert found.token_id not in (None, 70)


def test_log_probabilities_are_the_models_own_under_a_grammar() -> None:
    guide = make_grammars().guide(of_schema({"enum": [7]}))
    [found] = sample(torch.zeros(1, NUM_TOKENS), [guided_row(guide, logprobs=2)])
    assert found.logprob is not None
    assert found.logprob.logprob == pytest.approx(-math.log(NUM_TOKENS))


def test_a_guide_that_has_failed_ends_its_row_with_the_reason_and_no_other() -> None:
    failed = make_grammars().guide(PEOPLE, [70])
    first, second = sample(torch.zeros(2, NUM_TOKENS), [guided_row(failed), guided_row(None)])
    assert first.token_id is None
    assert "the grammar ended at position 2" in (first.error or "")
    assert second.token_id is not None
