"""Reading calls out of an answer, however its text is cut into pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.api.tool_calls import AnswerPiece, Arguments, CallBegins, CallReader
from tests.deployments.api.tools import call

TEXTS = st.text(st.sampled_from('ab <>\n{}tool_cl/"é'), max_size=30)
CITIES = st.text(max_size=20)


def read(*pieces: str) -> list[AnswerPiece]:
    reader = CallReader()
    return [shown for piece in pieces for shown in reader.push(piece)] + reader.finish()


def text_of(shown: list[AnswerPiece]) -> str:
    return "".join(piece for piece in shown if isinstance(piece, str))


def calls_of(shown: list[AnswerPiece]) -> list[tuple[str, str]]:
    names = {piece.index: piece.name for piece in shown if isinstance(piece, CallBegins)}
    return [
        (name, "".join(piece.text for piece in shown if isinstance(piece, Arguments) and piece.index == index))
        for index, name in names.items()
    ]


@given(text=TEXTS.filter(lambda text: "<tool_call>" not in text), cities=st.lists(CITIES, max_size=3), data=st.data())
def test_text_and_calls_come_out_as_they_went_in_wherever_the_answer_is_cut(
    text: str, cities: list[str], data: st.DataObject
) -> None:
    answer = text + "\n".join(call(city=city) for city in cities)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=8)))
    pieces = [answer[start:end] for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    shown = read(*pieces)
    assert text_of(shown) == (text.rstrip() if cities else text)
    assert calls_of(shown) == [("weather", json.dumps({"city": city}, ensure_ascii=False)) for city in cities]


def test_one_character_at_a_time_arguments_come_as_soon_as_they_are_sure() -> None:
    reader = CallReader()
    whole = call(city="Paris")
    early = [piece for letter in whole[: whole.index("Paris")] for piece in reader.push(letter)]
    assert early[0] == CallBegins(0, "weather")
    assert calls_of(early) == [("weather", '{"city": "')]


def test_text_that_may_begin_a_call_waits_and_comes_when_it_does_not() -> None:
    reader = CallReader()
    assert reader.push("I see \n<tool") == ["I see"]
    assert reader.push("box>") == [" \n<toolbox>"]


def test_text_that_ends_in_half_a_mark_is_shown_at_the_end() -> None:
    assert text_of(read("1 <", "tool")) == "1 <tool"


@pytest.mark.parametrize(
    ("cut", "shown"),
    [
        ("Look.\n<tool_call>\n{", ["Look."]),
        ('<tool_call>\n{"name": "wea', []),
        ('<tool_call>\n{"name": "weather", "arguments": {"ci', [CallBegins(0, "weather"), Arguments(0, '{"ci')]),
        (call(city="a")[:-4], [CallBegins(0, "weather"), Arguments(0, '{"city": "a"}')]),
        (
            call(city="a").partition("}\n")[0],
            [CallBegins(0, "weather"), Arguments(0, '{"city": "a"'), Arguments(0, "}")],
        ),
        (call(city="a").partition("\n</")[0], [CallBegins(0, "weather"), Arguments(0, '{"city": "a"}')]),
        (
            call(city="a}")[: -len('"}}\n</tool_call>')],
            [CallBegins(0, "weather"), Arguments(0, '{"city": "a'), Arguments(0, "}")],
        ),
        (call(city="a") + "\n<tool", [CallBegins(0, "weather"), Arguments(0, '{"city": "a"}')]),
    ],
)
def test_an_answer_that_is_cut_in_a_call_shows_what_there_is_of_its_arguments(cut: str, shown: list[object]) -> None:
    assert read(cut) == shown
