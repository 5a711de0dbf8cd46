"""Owns the way between text and token ids for one checkpoint, its chat template included. Knows nothing of weights.

Threads may share it: encoding and decoding keep no state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer as RustTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.detokenizer import IncrementalDetokenizer
from engine.grammar import Vocabulary
from engine.token_bytes import TokenBytes, UnsupportedTokenizer

# Stand where a message had a control token's text while the template is rendered; its own ones are replaced as well.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
# OverflowError is the sandbox's word for a range that is too long; the others are what a template's own operations say
# of values that they do not suit, such as a number where a tool's schema should name a type.
_REFUSALS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)


class TemplateRefused(ValueError):
    """The checkpoint's chat template does not take these messages. The ingress tells the client why."""


class Tokenizer:
    """A checkpoint's own tokenizer and chat template.

    In messages, text that looks like a control token (`<|im_end|>`) is only text: a client cannot end its own turn or
    begin another's. In `encode` it is the control token, because raw prompts bring their own template.
    """

    def __init__(self, checkpoint_tokenizer: PreTrainedTokenizerFast, eos_token_ids: Sequence[int] = ()) -> None:
        self._template = checkpoint_tokenizer
        self._rust = _private_copy(checkpoint_tokenizer.backend_tokenizer, eos_token_ids)
        self._plain = _private_copy(checkpoint_tokenizer.backend_tokenizer, eos_token_ids)
        self._plain.encode_special_tokens = True
        self._table = TokenBytes(self._rust)
        self._eos_token_ids = tuple(eos_token_ids)
        special = [self._table[token_id].decode() for token_id in self._table.special_ids]
        self._guarded = re.compile("|".join(map(re.escape, [*sorted(special, key=len, reverse=True), _OPEN, _CLOSE])))

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a checkpoint's folder; nothing is fetched and no code of the checkpoint runs.

        Raises:
            UnsupportedTokenizer: there is no fast tokenizer, or not one whose tokens stand for bytes.
        """
        loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        if not isinstance(loaded, PreTrainedTokenizerFast):
            raise UnsupportedTokenizer(f"{folder}: expected a tokenizer.json, got a {type(loaded).__name__}")
        own = [] if loaded.eos_token_id is None else [loaded.eos_token_id]
        return cls(loaded, sorted({*own, *_configured_ends(Path(folder))}))

    @property
    def vocab_size(self) -> int:
        return self._table.vocab_size

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """What ends an answer by the word of the tokenizer, the configuration or the generation settings."""
        return self._eos_token_ids

    def vocabulary(self) -> Vocabulary:
        """What grammars are written over."""
        ends = tuple(token_id for token_id in self._eos_token_ids if token_id < self.vocab_size)
        return Vocabulary(self._rust.to_str(), ends)

    def encode(self, text: str) -> list[int]:
        """A raw prompt's tokens, with those that the checkpoint puts around any text (such as a first `<s>`)."""
        [token_ids] = _encoded(self._rust, [text], add_special_tokens=True)
        return token_ids

    @property
    def speaks_tools(self) -> bool:
        """Whether the chat template shows tools, and calls between `<tool_call>` and `</tool_call>`, by itself."""
        templates = self._template.chat_template or ""
        written = templates.values() if isinstance(templates, dict) else [templates]
        return any("<tool_call>" in template and "tools" in template for template in written)

    def render_chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt that the checkpoint's template makes of these messages.

        Raises:
            TemplateRefused: it takes no such conversation, or there is no template.
        """
        if not self._template.chat_template:
            raise TemplateRefused("this model has no chat template; send a prompt instead of messages")
        try:
            rendered = self._template.apply_chat_template(
                list(messages),
                tools=list(tools) if tools else None,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except _REFUSALS as refusal:
            raise TemplateRefused(f"the model's chat template refuses the messages: {refusal}") from refusal
        return str(rendered)

    def encode_chat(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]:
        """The tokens of the rendered messages, with the assistant's turn opened. Raises TemplateRefused."""
        lookalikes: list[str] = []
        guarded = [self._guard(message, lookalikes) for message in messages]
        shown = [self._guard(tool, lookalikes) for tool in tools or ()]
        rendered = self.render_chat(guarded, shown)
        parts = _MARK.split(rendered)  # by turns text, and which lookalike stands after it
        spelt = self._spelt(lookalikes)
        texts = _encoded(self._rust, parts[::2], add_special_tokens=False)
        marks = [*(spelt[lookalikes[int(place)]] for place in parts[1::2]), []]
        return [token_id for pair in zip(texts, marks, strict=True) for part in pair for token_id in part]

    def detokenizer(self, prompt_token_ids: Sequence[int] = ()) -> IncrementalDetokenizer:
        """For the answer to this prompt."""
        return IncrementalDetokenizer(self._table, prompt_token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for; a control token stands for its name."""
        return self._table[token_id]

    def _guard(self, value: Any, lookalikes: list[str]) -> Any:
        """The value with a mark in place of each text in it that looks like a control token."""

        def mark(found: re.Match[str]) -> str:
            lookalikes.append(found[0])
            return f"{_OPEN}{len(lookalikes) - 1}{_CLOSE}"

        if isinstance(value, str):
            return self._guarded.sub(mark, value)
        if isinstance(value, dict):
            return {self._guard(name, lookalikes): self._guard(inner, lookalikes) for name, inner in value.items()}
        return [self._guard(inner, lookalikes) for inner in value] if isinstance(value, list) else value

    def _spelt(self, lookalikes: Sequence[str]) -> dict[str, list[int]]:
        """Each of them as plain text. There may be a million, of a few kinds."""
        kinds = sorted(set(lookalikes))
        return dict(zip(kinds, _encoded(self._plain, kinds, add_special_tokens=False), strict=True))


def _encoded(tokenizer: RustTokenizer, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
    """Token ids of each. `encode` would hold the interpreter's lock, and with it every other thread, for as long as a
    text takes, which may be seconds; for batches it is given up."""
    encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
    return [list(each.ids) for each in encoded]


def _private_copy(tokenizer: RustTokenizer, eos_token_ids: Sequence[int]) -> RustTokenizer:
    """One that nobody else configures, and that neither cuts nor pads.

    Its control tokens are found in the text as it stands: in normalised text, other text would become one (with NFKC,
    one in full-width characters). What ends an answer is a control token, however it was marked.
    """
    facts = json.loads(tokenizer.to_str())
    for token in facts["added_tokens"]:
        if token["special"] or token["id"] in eos_token_ids:
            token |= {"special": True, "normalized": False}
    copied = RustTokenizer.from_str(json.dumps(facts))
    copied.no_truncation()
    copied.no_padding()
    return copied


def _configured_ends(folder: Path) -> Iterator[int]:
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        found = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
        if isinstance(found, int):
            yield found
        elif found is not None:
            yield from found
