"""Owns how log probabilities look in OpenAI's two dialects. Knows nothing of where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.api.model_service import Tokenizer
from engine.protocol import TokenLogprob

MIN_LOGPROB = -9999.0  # JSON has no infinity; OpenAI writes this


@dataclass(frozen=True, slots=True)
class EchoedPrompt:
    """A prompt as the answer repeats it: its text, and where each of its tokens begins there."""

    token_ids: list[int]
    text: str
    offsets: list[int] = field(default_factory=list)


def echoed_prompt(tokenizer: Tokenizer, token_ids: list[int]) -> EchoedPrompt:
    """The prompt's text as its tokens spell it."""
    detokenizer = tokenizer.detokenizer()
    text = ""
    offsets = []
    for token_id in token_ids:
        offsets.append(len(text))
        text += detokenizer.push([token_id])
    return EchoedPrompt(token_ids, text + detokenizer.finish(), offsets)


def chat_logprobs(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprob], num_top: int) -> dict[str, Any]:
    """The `logprobs` object of a chat choice."""
    return {"content": [_chat_token(tokenizer, one, num_top) for one in logprobs], "refusal": None}


def completion_logprobs(
    tokenizer: Tokenizer,
    logprobs: Sequence[TokenLogprob | None],
    token_ids: Sequence[int],
    offsets: Sequence[int],
    num_top: int,
) -> dict[str, Any]:
    """The `logprobs` object of a completion choice; None stands for the first token of an echoed prompt."""
    return {
        "tokens": [token_text(tokenizer, token_id) for token_id in token_ids],
        "token_logprobs": [None if one is None else _finite(one.logprob) for one in logprobs],
        "top_logprobs": [None if one is None else _top(tokenizer, one, num_top) for one in logprobs],
        "text_offset": list(offsets),
    }


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """The token as text; one that is a part of a character as `bytes:\\xe2\\x82`, so that no two look alike."""
    raw = tokenizer.token_bytes(token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _chat_token(tokenizer: Tokenizer, one: TokenLogprob, num_top: int) -> dict[str, Any]:
    top = [_described(tokenizer, token_id, logprob) for token_id, logprob in one.top[:num_top]]
    return {**_described(tokenizer, one.token_id, one.logprob), "top_logprobs": top}


def _described(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token_id)
    return {"token": raw.decode(errors="replace"), "logprob": _finite(logprob), "bytes": list(raw)}


def _top(tokenizer: Tokenizer, one: TokenLogprob, num_top: int) -> dict[str, float]:
    return {token_text(tokenizer, token_id): _finite(logprob) for token_id, logprob in one.top[:num_top]}


def _finite(logprob: float) -> float:
    return max(logprob, MIN_LOGPROB)
