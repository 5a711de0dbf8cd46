"""Owns what the ingress knows of one model: its handle, its tokenizer, its limits. Knows no Ray and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.api.grammar_check import GrammarJudge
from deployments.generate_call import ModelHandle


class Detokenizer(Protocol):
    """Token ids in, text out: never half a character. `finish` gives what is left."""

    def push(self, token_ids: Sequence[int]) -> str: ...

    def finish(self) -> str: ...


class Tokenizer(Protocol):
    """Text to token ids and back. `engine.tokenizer` implements it for a checkpoint; tests spell words instead.

    encode_chat: renders the chat template, opens the assistant's turn and tokenises.
    speaks_tools: the template itself shows tools, calls and their results; others get them as text.
    token_bytes: what one token stands for; a token may be a part of a character.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...

    @property
    def speaks_tools(self) -> bool: ...

    def encode(self, text: str) -> list[int]: ...

    def encode_chat(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]: ...

    def detokenizer(self, prompt_token_ids: Sequence[int] = ()) -> Detokenizer: ...

    def token_bytes(self, token_id: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What `/v1/models` shows. created_s: Unix seconds. max_model_len: tokens of prompt and answer."""

    name: str
    created_s: int
    max_model_len: int
    owned_by: str = "fastserve"


@dataclass(frozen=True, slots=True)
class ModelService:
    """One served model, as the ingress uses it. num_embeddings: tokens that its weights know, if that is known here."""

    handle: ModelHandle
    tokenizer: Tokenizer
    card: ModelCard
    grammars: GrammarJudge
    num_embeddings: int | None = None

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def max_model_len(self) -> int:
        """Tokens of prompt and answer: what the replicas offer, else what the checkpoint allows."""
        return self.handle.max_model_len or self.card.max_model_len

    @property
    def vocab_size(self) -> int:
        """Token ids below it can be sent to the model: some tokenizers have tokens that the weights lack."""
        known = self.tokenizer.vocab_size
        return known if self.num_embeddings is None else min(known, self.num_embeddings)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """What ends an answer, of the tokens that the model can give."""
        return tuple(token_id for token_id in self.tokenizer.eos_token_ids if token_id < self.vocab_size)

    def describe(self) -> dict[str, object]:
        """The model as OpenAI's `/v1/models` shows it, and its context."""
        shown = {"id": self.name, "object": "model", "created": self.card.created_s, "owned_by": self.card.owned_by}
        return {**shown, "max_model_len": self.max_model_len}
