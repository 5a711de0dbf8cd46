"""Tools and calls of them, with defaults for all that a test does not care about."""

from __future__ import annotations

import json
from typing import Any

from llguidance import LLMatcher

from tests.deployments.fake_model import BYTES

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str = "weather", parameters: object = CITY, **fields: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **fields}}


def call(name: str = "weather", **arguments: object) -> str:
    """As a model writes it."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}\n</tool_call>'


def fits(grammar: str, answer: str) -> bool:
    """Whether the grammar lets this be a whole answer."""
    matcher = LLMatcher(BYTES, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    raw = list(answer.encode())
    return matcher.try_consume_tokens(raw) == len(raw) and matcher.is_accepting()


def begins(grammar: str, text: str) -> bool:
    """Whether an answer may begin like this."""
    matcher = LLMatcher(BYTES, grammar, log_level=0)
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode())
