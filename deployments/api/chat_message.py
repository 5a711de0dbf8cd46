"""Owns how a chat answer's text and calls of tools are written, whole and as deltas. Knows nothing of reading them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deployments.api.tool_calls import AnswerPiece, Arguments, CallBegins

JsonObject = dict[str, Any]
MintId = Callable[[], str] | None


def shown_delta(piece: AnswerPiece, mint_id: MintId) -> JsonObject:
    """The delta of one piece: the head of a call has its id and name, what follows more of its arguments."""
    if isinstance(piece, str):
        return {"content": piece}
    if isinstance(piece, CallBegins):
        return {"tool_calls": [{"index": piece.index, **_call(piece, mint_id)}]}
    return {"tool_calls": [{"index": piece.index, "function": {"arguments": piece.text}}]}


def whole_message(pieces: Sequence[AnswerPiece], mint_id: MintId) -> JsonObject:
    """The message that all pieces make. Beside calls, no text is null, as OpenAI has it."""
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    message: JsonObject = {"role": "assistant", "content": text, "refusal": None}
    calls = [_call(piece, mint_id) for piece in pieces if isinstance(piece, CallBegins)]
    for piece in pieces:
        if isinstance(piece, Arguments):
            calls[piece.index]["function"]["arguments"] += piece.text
    return {**message, "content": text or None, "tool_calls": calls} if calls else message


def _call(begins: CallBegins, mint_id: MintId) -> JsonObject:
    assert mint_id is not None
    return {"id": f"call_{mint_id()}", "type": "function", "function": {"name": begins.name, "arguments": ""}}
