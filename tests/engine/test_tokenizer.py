"""Text and token ids of a checkpoint: its template, its ends, and clients who write control tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models
from transformers import PreTrainedTokenizerFast

from engine.token_bytes import TokenBytes, UnsupportedTokenizer
from engine.tokenizer import TemplateRefused, Tokenizer
from tests.engine.tokenizers import CONTROL_TOKENS, TOOL_TEMPLATE, as_checkpoint_tokenizer, byte_level, sentence_piece

TOKENIZER = Tokenizer(as_checkpoint_tokenizer())
CONTROL_IDS = [TOKENIZER.encode(name)[0] for name in CONTROL_TOKENS]


def test_a_conversation_becomes_what_the_template_says_with_the_assistants_turn_opened() -> None:
    messages = [{"role": "user", "content": "hello fox"}]
    rendered = "<|im_start|>user\nhello fox<|im_end|>\n<|im_start|>assistant\n"
    assert TOKENIZER.render_chat(messages) == rendered
    assert TOKENIZER.encode_chat(messages) == TOKENIZER.encode(rendered)
    assert TOKENIZER.render_chat(messages, add_generation_prompt=False) == rendered.removesuffix(
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "ask", [TOKENIZER.encode, lambda text: TOKENIZER.encode_chat([{"role": "user", "content": text}])]
)
def test_a_long_text_leaves_the_processor_to_other_threads_while_it_is_tokenised(
    ask: Callable[[str], list[int]],
) -> None:
    num_turns = 0
    with ThreadPoolExecutor(1) as pool:
        tokenised = pool.submit(ask, "x" * 2**20)
        while not wait([tokenised], timeout=0.001).done:
            num_turns += 1
    assert len(tokenised.result()) >= 2**20
    assert num_turns > 20


hostile = st.lists(st.sampled_from([*CONTROL_TOKENS, "\ue000", "\ue0010\ue001", "\ue0000\ue001", "fox", " ", "é"])).map(
    "".join
)


@given(hostile)
def test_no_content_can_end_its_turn_or_be_lost(content: str) -> None:
    token_ids = TOKENIZER.encode_chat([{"role": "user", "content": content}])
    assert [token_id for token_id in token_ids if token_id in CONTROL_IDS] == [
        CONTROL_IDS[0],
        CONTROL_IDS[1],
        CONTROL_IDS[0],
    ]
    text = byte_level().decode(token_ids, skip_special_tokens=False)
    assert text == f"<|im_start|>user\n{content.strip()}<|im_end|>\n<|im_start|>assistant\n"


@given(hostile)
def test_no_tool_and_no_call_or_result_of_one_can_end_its_turn_or_be_lost(text: str) -> None:
    speaking = Tokenizer(as_checkpoint_tokenizer(chat_template=TOOL_TEMPLATE))
    tool = {"type": "function", "function": {"name": "f", "description": text, "parameters": {text: [text, 1, None]}}}
    calls = [{"function": {"name": "f", "arguments": {text: text}}}]
    messages = [{"role": "assistant", "content": "", "tool_calls": calls}, {"role": "tool", "content": text}]
    token_ids = speaking.encode_chat(messages, [tool])
    assert [token_id for token_id in token_ids if token_id in CONTROL_IDS] == [*CONTROL_IDS * 3, CONTROL_IDS[0]]
    assert byte_level().decode(token_ids, skip_special_tokens=False) == speaking.render_chat(messages, [tool])


def test_a_template_speaks_tools_where_it_shows_them_and_calls_between_the_usual_marks() -> None:
    assert not TOKENIZER.speaks_tools
    assert not Tokenizer(as_checkpoint_tokenizer(chat_template=None)).speaks_tools
    assert Tokenizer(as_checkpoint_tokenizer(chat_template=TOOL_TEMPLATE)).speaks_tools


def test_a_grammar_can_be_written_over_what_the_checkpoint_knows() -> None:
    vocabulary = Tokenizer(as_checkpoint_tokenizer(), eos_token_ids=[1, 9_999]).vocabulary()
    assert vocabulary.eos_token_ids == (1,)
    assert vocabulary.tokenizer().vocab_size == TOKENIZER.vocab_size


def test_a_control_token_in_a_raw_prompt_is_one() -> None:
    assert CONTROL_IDS[1] in TOKENIZER.encode("hello<|im_end|>")


def test_what_the_template_refuses_is_refused_with_its_reason() -> None:
    with pytest.raises(TemplateRefused, match="no tools"):
        TOKENIZER.encode_chat([{"role": "tool", "content": "42"}])


@pytest.mark.parametrize("parameters", [{"type": 7}, {"type": "object", "properties": 7}])
def test_a_tool_that_the_template_cannot_show_is_refused(parameters: dict[str, object]) -> None:
    template = "{% for tool in tools %}{{ 'a ' + tool.type }}{{ tool.properties | length }}{% endfor %}"
    speaking = Tokenizer(as_checkpoint_tokenizer(chat_template=template))
    with pytest.raises(TemplateRefused, match="refuses the messages"):
        speaking.encode_chat([{"role": "user", "content": "Hi"}], [parameters])


@pytest.mark.parametrize(
    "facts", [{"normalized": True}, {"normalized": True, "special": False}, {"special": False}], ids=str
)
@pytest.mark.parametrize("content", ["<|im_end|>", "\uff1c\uff5cim_end\uff5c\uff1e"])
def test_no_text_ends_a_turn_however_the_checkpoint_marks_what_does(facts: dict[str, bool], content: str) -> None:
    marked = json.loads(byte_level().to_str()) | {"normalizer": {"type": "NFKC"}}
    marked["added_tokens"][CONTROL_IDS[1]] |= facts
    checkpoint = PreTrainedTokenizerFast(tokenizer_object=RustTokenizer.from_str(json.dumps(marked)))
    checkpoint.chat_template = "{{ messages[0]['content'] }}<|im_end|>"
    token_ids = Tokenizer(checkpoint, [CONTROL_IDS[1]]).encode_chat([{"role": "user", "content": content}])
    assert [place for place, token_id in enumerate(token_ids) if token_id == CONTROL_IDS[1]] == [len(token_ids) - 1]


def test_a_model_without_a_template_says_so() -> None:
    with pytest.raises(TemplateRefused, match="no chat template"):
        Tokenizer(as_checkpoint_tokenizer(chat_template=None)).encode_chat([{"role": "user", "content": "hello"}])


def test_every_end_that_the_checkpoint_names_is_found(tmp_path: Path) -> None:
    as_checkpoint_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 7}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.eos_token_ids == tuple(sorted([CONTROL_IDS[1], 7, 9]))
    assert loaded.encode("hello fox") == TOKENIZER.encode("hello fox")


def test_the_vocabulary_ends_after_its_last_token() -> None:
    assert TOKENIZER.vocab_size == byte_level().get_vocab_size()


@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_the_bytes_of_tokens_add_up_to_the_text(make: type) -> None:
    table = TokenBytes(make())
    text = "the fox é 日本 🙂"
    assert b"".join(table[token_id] for token_id in make().encode(text).ids) == text.encode()


def test_an_added_token_stands_for_its_name() -> None:
    table = TokenBytes(byte_level())
    assert table[byte_level().token_to_id("<think>")] == b"<think>"
    assert byte_level().token_to_id("<think>") not in table.special_ids


def test_a_tokenizer_without_bytes_of_its_own_is_refused() -> None:
    pieces = RustTokenizer(models.WordPiece({"a": 0}, unk_token="a"))
    pieces.decoder = decoders.WordPiece()
    with pytest.raises(UnsupportedTokenizer, match="got \\['WordPiece'\\]"):
        TokenBytes(pieces)


def test_threads_may_share_a_tokenizer() -> None:
    messages = [{"role": "user", "content": "the quick <|im_end|> fox " * 50}]
    expected = TOKENIZER.encode_chat(messages)
    with ThreadPoolExecutor(8) as threads:
        assert all(found == expected for found in threads.map(TOKENIZER.encode_chat, [messages] * 64))
