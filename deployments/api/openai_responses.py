"""Owns how answers are written: OpenAI's objects and chunks, and the simple form. Knows nothing of their making."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from deployments.api.answer_parts import Part
from deployments.api.chat_message import shown_delta, whole_message
from deployments.api.model_service import Tokenizer
from deployments.api.openai_logprobs import EchoedPrompt, chat_logprobs, completion_logprobs
from deployments.api.tool_calls import AnswerPiece, CallReader
from engine.protocol import FinishReason

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; each prompt counts once, whatever `n` is."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_cached_tokens: int

    def to_json(self) -> JsonObject:
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": self.num_output_tokens,
            "total_tokens": self.num_prompt_tokens + self.num_output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.num_cached_tokens},
        }


class AnswerFormat(Protocol):
    """One dialect. `chunks` gives the stream's objects for a part, `usage_chunk` the one after the last part."""

    def whole(self, parts: Sequence[Part], usage: Usage, elapsed_s: float) -> JsonObject: ...

    def chunks(self, part: Part) -> list[JsonObject]: ...

    def usage_chunk(self, usage: Usage) -> JsonObject: ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every object of one answer repeats. with_usage: chunks say `usage: null` before the one that has it."""

    answer_id: str
    created_s: int
    model: str
    with_usage: bool = False

    def wrap(self, kind: str, choices: list[JsonObject]) -> JsonObject:
        shared = {"id": self.answer_id, "object": kind, "created": self.created_s, "model": self.model}
        return {**shared, "choices": choices, "system_fingerprint": None}

    def wrap_chunk(self, kind: str, choices: list[JsonObject]) -> JsonObject:
        chunk = self.wrap(kind, choices)
        return {**chunk, "usage": None} if self.with_usage else chunk


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Chat completions. num_logprobs: alternatives beside each token; None shows no log probabilities.

    mint_id: gives a call of a tool its id; None where the answer can have none.
    """

    envelope: Envelope
    tokenizer: Tokenizer
    num_logprobs: int | None = None
    mint_id: Callable[[], str] | None = None
    _readers: dict[int, CallReader] = field(default_factory=dict)

    def whole(self, parts: Sequence[Part], usage: Usage, elapsed_s: float) -> JsonObject:
        choices = [self._choice(part, "message", whole_message(self._pieces(part), self.mint_id)) for part in parts]
        return {**self.envelope.wrap("chat.completion", choices), "usage": usage.to_json()}

    def chunks(self, part: Part) -> list[JsonObject]:
        shown = [shown_delta(piece, self.mint_id) for piece in self._pieces(part)]
        is_due = part.finish_reason is not None or bool(part.logprobs)
        choices = self._deltas(part, shown or ([{}] if is_due else []))
        if part.is_first:
            role = {"role": "assistant", "content": "", "refusal": None}
            choices.insert(0, self._choice(Part(part.index, is_first=True), "delta", role))
        return [self.envelope.wrap_chunk("chat.completion.chunk", [choice]) for choice in choices]

    def usage_chunk(self, usage: Usage) -> JsonObject:
        return {**self.envelope.wrap("chat.completion.chunk", []), "usage": usage.to_json()}

    def _pieces(self, part: Part) -> list[AnswerPiece]:
        """What the part adds: its text, or calls of tools that stand in it."""
        if self.mint_id is None:
            return [part.text] if part.text else []
        reader = self._readers.setdefault(part.index, CallReader())
        return reader.push(part.text) + (reader.finish() if part.finish_reason is not None else [])

    def _deltas(self, part: Part, shown: Sequence[JsonObject]) -> list[JsonObject]:
        """One choice for each; the log probabilities go with the first, the finish reason with the last."""
        last = len(shown) - 1
        parts = (
            replace(
                part,
                logprobs=part.logprobs if place == 0 else [],
                finish_reason=part.finish_reason if place == last else None,
            )
            for place in range(len(shown))
        )
        return [self._choice(each, "delta", delta) for each, delta in zip(parts, shown, strict=True)]

    def _choice(self, part: Part, content_key: str, content: JsonObject) -> JsonObject:
        return {
            "index": part.index,
            content_key: content,
            "logprobs": self._logprobs(part),
            "finish_reason": self._finish_reason(part),
        }

    def _finish_reason(self, part: Part) -> str | None:
        reader = self._readers.get(part.index)
        has_called = reader is not None and reader.num_calls > 0 and not reader.is_cut
        return "tool_calls" if has_called and part.finish_reason is FinishReason.STOP else part.finish_reason

    def _logprobs(self, part: Part) -> JsonObject | None:
        if self.num_logprobs is None or not part.logprobs:
            return None
        return chat_logprobs(self.tokenizer, part.logprobs, self.num_logprobs)


@dataclass(frozen=True, slots=True)
class CompletionFormat:
    """Completions. echoes: by choice index, the prompts that the answer repeats; empty without `echo`."""

    envelope: Envelope
    tokenizer: Tokenizer
    num_logprobs: int | None = None
    echoes: Sequence[EchoedPrompt] = field(default_factory=list)

    def whole(self, parts: Sequence[Part], usage: Usage, elapsed_s: float) -> JsonObject:
        choices = [self._choice(part) for part in parts]
        return {**self.envelope.wrap("text_completion", choices), "usage": usage.to_json()}

    def chunks(self, part: Part) -> list[JsonObject]:
        return [self.envelope.wrap_chunk("text_completion", [self._choice(part)])]

    def usage_chunk(self, usage: Usage) -> JsonObject:
        return {**self.envelope.wrap("text_completion", []), "usage": usage.to_json()}

    def _choice(self, part: Part) -> JsonObject:
        echo = self.echoes[part.index] if self.echoes else None
        shown = echo.text if echo is not None and part.is_first else ""
        return {
            "index": part.index,
            "text": shown + part.text,
            "logprobs": self._logprobs(part, echo),
            "finish_reason": part.finish_reason,
        }

    def _logprobs(self, part: Part, echo: EchoedPrompt | None) -> JsonObject | None:
        if self.num_logprobs is None:
            return None
        shift = 0 if echo is None else len(echo.text)
        logprobs, token_ids = [*part.logprobs], part.token_ids
        offsets = [offset + shift for offset in part.text_offsets]
        if echo is None or not part.is_first:
            return completion_logprobs(self.tokenizer, logprobs, token_ids, offsets, self.num_logprobs)
        return completion_logprobs(
            self.tokenizer,
            [None, *(part.prompt_logprobs or []), *logprobs],
            echo.token_ids + token_ids,
            echo.offsets + offsets,
            self.num_logprobs,
        )


@dataclass(frozen=True, slots=True)
class GenerateFormat:
    """The simple form, which does not stream."""

    model: str

    def whole(self, parts: Sequence[Part], usage: Usage, elapsed_s: float) -> JsonObject:
        return {"generated_text": parts[0].text, "generation_time": elapsed_s, "model_name": self.model}

    def chunks(self, part: Part) -> list[JsonObject]:
        return [{"generated_text": part.text}]

    def usage_chunk(self, usage: Usage) -> JsonObject:
        return {"usage": usage.to_json()}
