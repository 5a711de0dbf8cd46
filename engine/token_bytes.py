"""Owns which bytes each token stands for. Knows nothing of prompts, templates or half-told answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_BOUNDARY = "\u2581"


class UnsupportedTokenizer(ValueError):
    """A tokenizer whose tokens do not each stand for bytes of their own. Raised at load; an operator should read it."""


class TokenBytes:
    """A table from token id to bytes; ids that the tokenizer does not know stand for nothing.

    special_ids: control tokens, which are no part of a text.

    Raises:
        UnsupportedTokenizer: the tokenizer is neither byte-level nor SentencePiece-like.
    """

    def __init__(self, tokenizer: RustTokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        to_bytes = _byte_level if _is_byte_level(tokenizer) else _sentence_piece
        self._bytes = {token_id: to_bytes(token) for token, token_id in tokenizer.get_vocab(True).items()}
        self._bytes |= {token_id: token.content.encode() for token_id, token in added.items()}
        self.vocab_size = max(self._bytes) + 1

    def __getitem__(self, token_id: int) -> bytes:
        return self._bytes.get(token_id, b"")


def _is_byte_level(tokenizer: RustTokenizer) -> bool:
    decoder = json.loads(tokenizer.to_str())["decoder"]
    kinds = set(_kinds(decoder)) if decoder else set()
    if "ByteLevel" in kinds:
        return True
    if kinds & {"ByteFallback", "Metaspace"}:
        return False
    raise UnsupportedTokenizer(f"decoder: expected ByteLevel, ByteFallback or Metaspace, got {sorted(kinds)}")


def _kinds(decoder: dict[str, Any]) -> Iterator[str]:
    yield decoder["type"]
    for part in decoder.get("decoders", []):
        yield from _kinds(part)


def _byte_level(token: str) -> bytes:
    """Raw where a character stands for no byte, as the decoder does."""
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return token.encode()


def _sentence_piece(token: str) -> bytes:
    single = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(single[1], 16)]) if single else token.replace(_WORD_BOUNDARY, " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes are themselves, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
