"""Following a grammar: every answer fits, a moved answer goes on where it was, and nothing grows without bound."""

from __future__ import annotations

import json
import random

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.grammar import MAX_REASON_CHARACTERS, GrammarRefused, Grammars, Vocabulary, shortened
from tests.engine.grammars import (
    END,
    NUM_TOKENS,
    PERSON,
    any_answer,
    make_grammars,
    make_vocabulary,
    of_schema,
    text_of,
)
from tests.engine.tokenizers import byte_level

GRAMMARS = make_grammars()
DIGIT = byte_level().token_to_id("7")


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_whatever_is_allowed_ends_in_json_that_fits_the_schema(seed: int) -> None:
    answer = any_answer(GRAMMARS.guide(of_schema(PERSON)), seed)
    assert answer[-1] == END
    jsonschema.validate(json.loads(text_of(answer)), PERSON)


@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_a_guide_that_is_told_of_all_tokens_at_once_allows_what_one_that_went_along_does(
    seed: int, share: float
) -> None:
    answer = any_answer(GRAMMARS.guide(of_schema(PERSON)), seed)[:-1]
    cut = int(share * len(answer))
    along = GRAMMARS.guide(of_schema(PERSON))
    for token_id in answer[:cut]:
        along.allowed(NUM_TOKENS)
        along.push([token_id])
    moved = make_grammars().guide(of_schema(PERSON), answer[:cut])
    for token_id in answer[cut:]:
        np.testing.assert_array_equal(along.allowed(NUM_TOKENS), moved.allowed(NUM_TOKENS))
        along.push([token_id])
        moved.push([token_id])


def test_a_complete_answer_may_only_end() -> None:
    guide = GRAMMARS.guide(of_schema({"enum": [7]}), [DIGIT])
    assert guide.allowed(NUM_TOKENS).nonzero()[0].tolist() == [END]


def test_every_end_of_the_model_may_end_an_answer() -> None:
    grammars = Grammars(lambda: make_vocabulary((0, END)))
    assert grammars.guide(of_schema({"enum": [7]}), [DIGIT]).allowed(NUM_TOKENS).nonzero()[0].tolist() == [0, END]


def test_token_ids_past_the_tokenizers_are_never_allowed() -> None:
    allowed = GRAMMARS.guide(of_schema(PERSON)).allowed(NUM_TOKENS + 50)
    assert len(allowed) == NUM_TOKENS + 50
    assert not allowed[NUM_TOKENS:].any()


def test_guides_of_one_grammar_do_not_sway_each_other() -> None:
    one, other = (GRAMMARS.guide(of_schema(PERSON)) for _ in range(2))
    before = other.allowed(NUM_TOKENS)
    any_answer(one, seed=1)
    np.testing.assert_array_equal(other.allowed(NUM_TOKENS), before)


def test_a_guide_that_is_told_of_a_token_that_does_not_fit_allows_nothing_and_says_why() -> None:
    guide = GRAMMARS.guide(of_schema(PERSON), [DIGIT])
    assert (bool(guide.failure), guide.is_over_limits) == (True, False)
    assert not guide.allowed(NUM_TOKENS).any()


def test_a_grammar_that_becomes_too_much_work_fails_its_guide() -> None:
    guide = GRAMMARS.guide(of_schema({"type": "string", "pattern": ".*a.{500}b.{500}"}))
    letters = random.Random(1).choices("ab", k=3000)
    token_ids = [byte_level().token_to_id(letter) for letter in ['"', *letters]]
    while guide.failure is None and token_ids:
        guide.allowed(NUM_TOKENS)
        guide.push([token_ids.pop(0)])
    assert (bool(guide.failure), guide.is_over_limits) == (True, True)
    assert not guide.allowed(NUM_TOKENS).any()


def test_a_long_string_of_bounded_length_stays_within_the_limits() -> None:
    quote, *letters = (byte_level().token_to_id(letter) for letter in '"ab')
    guide = GRAMMARS.guide(of_schema({"type": "string", "maxLength": 20_000}), [quote])
    for place in range(5000):
        guide.allowed(NUM_TOKENS)
        guide.push([letters[place % 2]])
    assert guide.failure is None


@pytest.mark.parametrize(
    "grammar",
    [
        "not a grammar",
        of_schema({"type": "nothing"}),
        of_schema({"$ref": "https://example.com/schema.json"}),
        of_schema({"type": "string", "minLength": 5, "maxLength": 2}),
        of_schema({"type": "string", "pattern": "("}),
    ],
)
def test_a_grammar_that_nothing_can_follow_is_refused_with_a_short_reason(grammar: str) -> None:
    with pytest.raises(GrammarRefused) as refused:
        GRAMMARS.guide(grammar)
    assert 0 < len(str(refused.value)) <= MAX_REASON_CHARACTERS


def test_a_grammar_above_the_limits_is_refused() -> None:
    schema: dict[str, object] = {"type": "string"}
    for level in range(12):
        schema = {"anyOf": [{"properties": {f"{side}{level}": schema}} for side in "ab"]}
    with pytest.raises(GrammarRefused, match=r"too (big|large)"):
        GRAMMARS.guide(of_schema(schema))


def test_what_llguidance_tells_of_its_own_insides_is_kept_back() -> None:
    assert shortened("panic: assertion failed: grammar.symbols\n<backtrace>\n 0: <unknown>") == "it is too complex"
    assert shortened("no extension\n<state>\nTokens") == "no extension"


def test_the_vocabulary_is_read_once() -> None:
    num_loads = []
    grammars = Grammars(lambda: num_loads.append(1) or make_vocabulary())  # type: ignore[func-returns-value]
    for number in (1, 2):
        grammars.guide(of_schema({"enum": [number]}))
    assert len(num_loads) == 1


def test_answers_that_follow_one_grammar_do_not_use_up_each_others_limits() -> None:
    grammar = of_schema({"type": "string", "pattern": ".*a.{40}b.*"})
    quote, *letters = (byte_level().token_to_id(letter) for letter in '"ab')
    chance = random.Random(1)
    guides = [GRAMMARS.guide(grammar, [quote]) for _ in range(8)]
    for guide in guides:
        for letter in chance.choices(letters, k=500):
            guide.allowed(NUM_TOKENS)
            guide.push([letter])
    assert [guide.failure for guide in guides] == [None] * 8


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [(make_vocabulary(()), "no end-of-sequence token"), (Vocabulary("{}", (END,)), "the model's tokenizer takes no")],
)
def test_a_model_without_an_end_or_with_a_tokenizer_that_cannot_be_read_follows_no_grammar(
    vocabulary: Vocabulary, message: str
) -> None:
    with pytest.raises(GrammarRefused, match=message):
        Grammars(lambda: vocabulary).guide(of_schema(PERSON))
