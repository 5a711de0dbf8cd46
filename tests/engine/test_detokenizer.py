"""Text as it grows: never half a character, the same text however it was cut, and stop strings that are not shown."""

from __future__ import annotations

import copy
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.detokenizer import IncrementalDetokenizer, StopStrings
from engine.token_bytes import TokenBytes
from tests.engine.tokenizers import byte_level, sentence_piece

BYTE_LEVEL = TokenBytes(byte_level())
SENTENCE_PIECE = TokenBytes(sentence_piece())
texts = st.text(alphabet="ab é€日本🙂👩‍👧🇫🇷\n\u0301", max_size=30)
any_byte_level_ids = st.lists(st.integers(0, BYTE_LEVEL.vocab_size - 1), max_size=40)
cuts = st.lists(st.integers(1, 4), min_size=1, max_size=5)


def pieces_of(token_ids: list[int], sizes: list[int]) -> list[list[int]]:
    pieces = []
    while token_ids:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(token_ids[:size])
        token_ids = token_ids[size:]
    return pieces


def grow(detokenizer: IncrementalDetokenizer, pieces: list[list[int]]) -> str:
    return "".join([*map(detokenizer.push, pieces), detokenizer.finish()])


@given(any_byte_level_ids, cuts)
def test_the_pieces_add_up_to_the_whole_answer_decoded_at_once(token_ids: list[int], sizes: list[int]) -> None:
    grown = grow(IncrementalDetokenizer(BYTE_LEVEL), pieces_of(token_ids, sizes))
    assert grown == byte_level().decode(token_ids, skip_special_tokens=True)


@given(any_byte_level_ids)
def test_control_tokens_are_shown_when_they_are_asked_for(token_ids: list[int]) -> None:
    grown = grow(IncrementalDetokenizer(BYTE_LEVEL, skip_special_tokens=False), [token_ids])
    assert grown == byte_level().decode(token_ids, skip_special_tokens=False)


@given(texts, cuts)
def test_no_piece_holds_half_a_character(text: str, sizes: list[int]) -> None:
    detokenizer = IncrementalDetokenizer(BYTE_LEVEL)
    for piece in pieces_of(byte_level().encode(text).ids, sizes):
        assert "\ufffd" not in detokenizer.push(piece)
    assert detokenizer.finish() == ""


@given(texts)
def test_text_through_byte_fallback_comes_back_whole(text: str) -> None:
    token_ids = sentence_piece().encode(text).ids
    assert grow(IncrementalDetokenizer(SENTENCE_PIECE), [[token_id] for token_id in token_ids]) == text


def test_a_character_that_never_becomes_whole_is_shown_as_a_replacement_at_the_end() -> None:
    detokenizer = IncrementalDetokenizer(BYTE_LEVEL)
    half = [token_id for token_id in range(BYTE_LEVEL.vocab_size) if BYTE_LEVEL[token_id] == b"\xf0"]
    assert detokenizer.push(half) == ""
    assert detokenizer.finish() == "\ufffd"


def test_a_prompt_that_ends_inside_a_character_is_completed_by_the_answer() -> None:
    first, *rest = (
        next(token_id for token_id in range(SENTENCE_PIECE.vocab_size) if SENTENCE_PIECE[token_id] == bytes([byte]))
        for byte in "€".encode()
    )
    assert grow(IncrementalDetokenizer(SENTENCE_PIECE, [first]), [rest]) == "€"


def test_an_id_outside_the_vocabulary_stands_for_nothing() -> None:
    assert grow(IncrementalDetokenizer(BYTE_LEVEL), [[10_000_000]]) == ""


@given(texts, st.integers(0, 20))
def test_a_copied_or_pickled_state_goes_on_like_the_original(text: str, cut: int) -> None:
    token_ids = byte_level().encode(text).ids
    original = IncrementalDetokenizer(BYTE_LEVEL)
    original.push(token_ids[:cut])
    copied, pickled = copy.copy(original), pickle.loads(pickle.dumps(original))
    expected = grow(original, [token_ids[cut:]])
    assert grow(copied, [token_ids[cut:]]) == expected
    assert grow(pickled, [token_ids[cut:]]) == expected


few_letters = st.text(alphabet="ab", max_size=25)
stops_of_few_letters = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3)


def naive_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Letter by letter: the text before the longest stop string that ends where the first one ends."""
    for end in range(1, len(text) + 1):
        ending_here = [stop for stop in stops if text[:end].endswith(stop)]
        if ending_here:
            return text[: end - max(map(len, ending_here))], True
    return text, False


@given(few_letters, stops_of_few_letters, cuts)
def test_stop_strings_end_the_text_where_a_search_of_the_whole_text_would(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    scanner, shown, rest = StopStrings(stops), "", text
    for size in sizes * len(text):
        shown += scanner.push(rest[:size])
        rest = rest[size:]
    shown += scanner.push(rest) + scanner.finish()
    assert (shown, scanner.is_stopped) == naive_stop(text, stops)


@given(few_letters, st.text(alphabet="ab", min_size=1, max_size=4))
def test_only_what_may_become_a_stop_string_is_held_back(text: str, stop: str) -> None:
    scanner = StopStrings([stop])
    shown = scanner.push(text)
    held = text[len(shown) :]
    assert scanner.is_stopped or (stop.startswith(held) and held != stop)


def test_a_stop_string_that_begins_twice_is_found() -> None:
    scanner = StopStrings(["aab"])
    assert [scanner.push(letter) for letter in "aaab"] == ["", "", "a", ""]
    assert scanner.is_stopped


def test_nothing_comes_out_after_a_stop_string() -> None:
    scanner = StopStrings(["END"])
    assert [scanner.push("so E"), scanner.push("ND and"), scanner.push("more"), scanner.finish()] == ["so ", "", "", ""]


def test_a_stop_scanner_can_be_pickled_half_way() -> None:
    scanner = StopStrings(["END"])
    scanner.push("so EN")
    assert pickle.loads(pickle.dumps(scanner)).push("D") == ""


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="stop: expected strings of at least one character"):
        StopStrings([""])


def test_long_stop_strings_cost_little_for_each_character_though_much_is_held_back() -> None:
    alike = ["a" * length + "b" * 500 for length in range(300, 307)]
    others = [first + "x" * 1023 for first in "cdefghij"]
    scanner = StopStrings(["a" * 1024, *alike, *others])
    began_s = time.process_time()
    for _ in range(1000):
        assert scanner.push("a") == ""
    assert time.process_time() - began_s < 0.2
    assert scanner.push("b" * 500) == "a" * (1000 - 306)
