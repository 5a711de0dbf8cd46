"""Owns asking a service for greedy token ids, in the dialect that it speaks. Judges none and times none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from fastserve.errors import ServerFailed

_ANSWER_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Dialect:
    """asked: what a request says so that its answer names its tokens. token_ids: reads them from a choice."""

    asked: dict[str, Any]
    token_ids: Callable[[dict[str, Any]], list[int]]


VLLM_DIALECT = Dialect({"return_token_ids": True}, lambda choice: list(choice["token_ids"]))


def our_dialect(folder: Path) -> Dialect:
    """We name tokens by their texts, no two of which are alike."""
    from deployments.api.openai_logprobs import token_text
    from engine.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    ids = {token_text(tokenizer, token_id): token_id for token_id in range(tokenizer.vocab_size)}
    return Dialect({"logprobs": 0}, lambda choice: [ids[text] for text in choice["logprobs"]["tokens"]])


def served_answers(
    base_url: str, model: str, prompts: list[list[int]], num_tokens: int, dialect: Dialect
) -> list[list[int]]:
    """Answers of `num_tokens` each, all asked for at once.

    Raises:
        ServerFailed: the service refused, or took too long.
    """
    body = {"model": model, "prompt": prompts, "max_tokens": num_tokens, "temperature": 0, "ignore_eos": True}
    try:
        response = httpx.post(f"{base_url}/v1/completions", json=body | dialect.asked, timeout=_ANSWER_WITHIN_S)
    except httpx.TransportError as error:
        raise ServerFailed(f"{base_url}: {type(error).__name__}: {error}") from None
    if response.status_code != httpx.codes.OK:
        raise ServerFailed(f"{base_url} answered {response.status_code}: {response.text}")
    choices = sorted(response.json()["choices"], key=lambda choice: int(choice["index"]))
    return [dialect.token_ids(choice) for choice in choices]
