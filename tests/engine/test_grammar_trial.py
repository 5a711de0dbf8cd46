"""Trying grammars in a process of their own: what passes, what is refused, and that nothing of it can last or stay."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from engine import grammar_trial
from engine.grammar import GrammarRefused, GrammarTooCostly, Vocabulary
from engine.grammar_trial import MAX_CPU_S, GrammarTrial, TrialBroken, try_out
from tests.engine.grammars import END, PERSON, make_vocabulary, of_schema

COSTLY = {
    "a multiple of a large number": {"type": "integer", "multipleOf": 9_999_973},
    "many patterns at once": {"allOf": [{"type": "string", "pattern": f".*x{i}.*"} for i in range(16)]},
}
WRONG = {
    "no schema": {"type": "nothing"},
    "no answer": {"$ref": "#"},
    "elsewhere": {"$ref": "https://example.com/schema.json"},
    "a file": {"$ref": "file:///etc/passwd"},
    "contradiction": {"type": "string", "minLength": 5, "maxLength": 2},
    "look-around": {"type": "string", "pattern": "^(?=.*[A-Z])x"},
    "too many ways": {"allOf": [{"anyOf": [{"required": [f"{side}{i}"]} for side in "ab"]} for i in range(30)]},
}


@pytest.fixture(scope="module")
def trial() -> Iterator[GrammarTrial]:
    made = GrammarTrial(make_vocabulary())
    yield made
    made.close()


def test_a_sound_grammar_passes(trial: GrammarTrial) -> None:
    trial.check(of_schema(PERSON))


@pytest.mark.parametrize("schema", WRONG.values(), ids=WRONG)
def test_a_grammar_that_has_no_answer_is_refused(trial: GrammarTrial, schema: dict[str, Any]) -> None:
    with pytest.raises(GrammarRefused):
        trial.check(of_schema(schema))


@pytest.mark.parametrize("schema", COSTLY.values(), ids=COSTLY)
def test_a_grammar_that_takes_too_long_is_cut_off_and_the_next_one_is_tried_by_the_same_process(
    trial: GrammarTrial, schema: dict[str, Any]
) -> None:
    trial.check(of_schema(PERSON))
    process = trial._process
    assert process is not None
    with pytest.raises(GrammarTooCostly, match="takes more than"):
        trial.check(of_schema(schema))
    trial.check(of_schema({"enum": [list(schema)]}))
    assert trial._process is process
    assert process.poll() is None


def test_what_was_tried_once_is_not_tried_again(trial: GrammarTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.check(of_schema({"enum": [1]}))
    with pytest.raises(GrammarRefused) as first:
        trial.check(of_schema({"$ref": "#"}))
    monkeypatch.setattr(trial, "_tried", None)
    trial.check(of_schema({"enum": [1]}))
    with pytest.raises(GrammarRefused, match=str(first.value)):
        trial.check(of_schema({"$ref": "#"}))


def test_the_first_of_many_that_is_refused_is_found_in_one_process(
    trial: GrammarTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = [of_schema({"enum": [number]}) for number in range(100)]
    trial.check(of_schema(PERSON))
    num_asked = 0

    def say(what: object) -> None:
        nonlocal num_asked
        num_asked += 1
        GrammarTrial._say(trial, what)

    monkeypatch.setattr(trial, "_say", say)
    assert trial.first_refused([*sound, of_schema(WRONG["contradiction"]), "nonsense"]) == 100
    assert trial.first_refused(sound) is None
    assert num_asked == 2


def test_who_is_refused_first_stays_open_where_finding_out_takes_more_than_one_may(trial: GrammarTrial) -> None:
    costly = of_schema(COSTLY["a multiple of a large number"])
    assert trial.first_refused([costly, of_schema(WRONG["contradiction"])]) is None


def test_no_more_verdicts_are_kept_than_the_bound(trial: GrammarTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_trial, "MAX_KEPT_VERDICTS", 3)
    trial._verdicts.clear()
    for number in range(6):
        trial.check(of_schema({"enum": [number]}))
    assert trial.num_kept == 3


def test_a_process_that_was_killed_is_replaced() -> None:
    trial = GrammarTrial(make_vocabulary())
    trial.check(of_schema(PERSON))
    assert trial._process is not None
    killed = trial._process
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    trial.check(of_schema({"enum": [1]}))
    assert trial._process is not killed
    trial.close()


def test_a_process_that_does_not_answer_is_ended_and_said_to_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = GrammarTrial(make_vocabulary())
    monkeypatch.setattr(grammar_trial, "MAX_ANSWER_S", 0.0)
    with pytest.raises(TrialBroken, match="no answer within"):
        trial.check(of_schema(PERSON))
    assert trial._process is None
    monkeypatch.undo()
    trial.check(of_schema(PERSON))
    trial.close()


def test_closing_ends_the_process() -> None:
    trial = GrammarTrial(make_vocabulary())
    trial.check(of_schema(PERSON))
    process = trial._process
    assert process is not None
    trial.close()
    assert process.returncode is not None


def test_the_process_ends_when_its_owner_is_gone() -> None:
    trial = GrammarTrial(make_vocabulary())
    trial.check(of_schema(PERSON))
    process = trial._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=20) == 0
    trial.close()


@pytest.mark.parametrize("vocabulary", [make_vocabulary(()), Vocabulary("{}", (END,))], ids=["no end", "no tokenizer"])
def test_a_vocabulary_that_grammars_cannot_be_written_over_refuses_them_all(vocabulary: Vocabulary) -> None:
    trial = GrammarTrial(vocabulary)
    for number in range(2):
        with pytest.raises(GrammarRefused, match="the model"):
            trial.check(of_schema({"enum": [number]}))
    trial.close()


def test_a_grammar_that_cannot_begin_is_found_out_by_its_first_steps() -> None:
    with pytest.raises(GrammarRefused, match="no answer fits it"):
        try_out(make_vocabulary().tokenizer(), of_schema({"$ref": "#"}))


def test_a_grammar_with_too_many_ways_to_go_on_is_found_out_by_its_first_steps() -> None:
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(900)}}
    with pytest.raises(GrammarRefused, match="Current row"):
        try_out(make_vocabulary().tokenizer(), json.dumps({"grammars": [{"json_schema": wide}]}))


def test_the_bound_is_far_below_what_holds_up_a_batch_noticeably() -> None:
    assert MAX_CPU_S <= 0.2
