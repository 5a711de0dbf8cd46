"""Builds grammars over a small tokenizer, and answers that follow them. Knows nothing of any one test."""

from __future__ import annotations

import json
import random
from typing import Any

from engine.grammar import Grammars, Guide, Vocabulary
from tests.engine.tokenizers import byte_level

END = 1
NUM_TOKENS = byte_level().get_vocab_size(with_added_tokens=True)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "likes": {"type": "array", "items": {"enum": ["tea", "chess"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def make_vocabulary(eos_token_ids: tuple[int, ...] = (END,)) -> Vocabulary:
    return Vocabulary(byte_level().to_str(), eos_token_ids)


def make_grammars() -> Grammars:
    return Grammars(make_vocabulary)


def of_schema(schema: dict[str, Any]) -> str:
    """A grammar in which an answer is JSON that fits the schema, without blanks."""
    compact = {**schema, "x-guidance": {"whitespace_flexible": False}}
    return json.dumps({"grammars": [{"json_schema": compact}]})


def any_answer(guide: Guide, seed: int, max_tokens: int = 400) -> list[int]:
    """One answer that the guide allows, its end included, if it ends within `max_tokens`."""
    chance, answer = random.Random(seed), list[int]()
    while len(answer) < max_tokens and END not in answer:
        allowed = guide.allowed(NUM_TOKENS).nonzero()[0].tolist()
        answer.append(chance.choice(allowed))
        guide.push(answer[-1:])
    return answer


def text_of(token_ids: list[int]) -> str:
    decoded: str = byte_level().decode([token_id for token_id in token_ids if token_id != END])
    return decoded
