"""A model in memory: its tokens are bytes, and what it answers is said beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llguidance import LLTokenizer

from deployments.api.model_service import ModelCard, ModelService
from deployments.generate_call import Entered, GenerateCall, GenerationEvent, Started
from engine.detokenizer import IncrementalDetokenizer
from engine.grammar import GrammarRefused
from engine.grammar_trial import try_out
from engine.protocol import FinishReason, SequenceOutput, TokenLogprob
from engine.tokenizer import TemplateRefused
from scheduling.score import Stamp

BYTES = LLTokenizer("byte")
EOS = 256
MAX_MODEL_LEN = 200


class _Bytes:
    special_ids = frozenset({EOS})
    vocab_size = EOS + 1

    def __getitem__(self, token_id: int) -> bytes:
        return b"<eos>" if token_id == EOS else bytes([token_id])


class ByteTokenizer:
    """One token a byte; a conversation is its texts, one after the other."""

    vocab_size = EOS + 1
    eos_token_ids = (EOS,)
    speaks_tools = False

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_chat(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]:
        if messages[0]["role"] == "assistant":
            raise TemplateRefused("the first turn must be the user's")
        return self.encode("".join(message["content"] for message in messages))

    def detokenizer(self, prompt_token_ids: Sequence[int] = ()) -> IncrementalDetokenizer:
        return IncrementalDetokenizer(_Bytes(), prompt_token_ids)  # type: ignore[arg-type]

    def token_bytes(self, token_id: int) -> bytes:
        return _Bytes()[token_id]


class InProcessJudge:
    """Tries grammars over single bytes, here and without a limit of time."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def check(self, grammar: str) -> None:
        self.tried.append(grammar)
        try_out(BYTES, grammar)

    def first_refused(self, grammars: Sequence[str]) -> int | None:
        return next((place for place, grammar in enumerate(grammars) if not self._passes(grammar)), None)

    def _passes(self, grammar: str) -> bool:
        try:
            try_out(BYTES, grammar)
        except GrammarRefused:
            return False
        return True

    def close(self) -> None:
        """There is nothing to end."""


def _says_hello(call: GenerateCall) -> str:
    return "Hello!"


@dataclass
class FakeHandle:
    """Answers `says(call)` byte by byte, then ends the sequence; `max_tokens` ends it sooner.

    error: raised instead of starting. fails_after: raised after so many tokens. ends_early: no terminal message.
    gate: when given, must be set before the tokens after the first come.
    enters: says of suspects that it computes them.
    """

    name: str = "fake"
    max_model_len: int | None = MAX_MODEL_LEN
    says: Callable[[GenerateCall], str] = _says_hello
    error: Exception | None = None
    fails_after: int | None = None
    failure: Exception | None = None
    ends_with: FinishReason | None = None
    num_failing_calls: int | None = None
    start_gate: asyncio.Event | None = None
    gate: asyncio.Event | None = None
    enters: bool = True
    num_cached_tokens: int = 0
    num_embeddings: int | None = None
    calls: list[GenerateCall] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    closed: list[str] = field(default_factory=list)
    one_closed: asyncio.Event = field(default_factory=asyncio.Event)
    all_closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, call: GenerateCall) -> AsyncGenerator[GenerationEvent, None]:
        self.calls.append(call)
        self.called.set()
        try:
            if self.error is not None:
                raise self.error
            if self.start_gate is not None:
                await self.start_gate.wait()
            yield Started(0.25, 7.5, "replica-1", Stamp(call.ticket.priority, 1000.0))
            if self.enters and call.request.is_suspect:
                yield Entered()
            async for output in self._outputs(call):
                yield output
        finally:
            self.closed.append(call.ticket.lease_id)
            self.one_closed.set()
            if len(self.closed) == len(self.calls):
                self.all_closed.set()

    async def _outputs(self, call: GenerateCall) -> AsyncGenerator[SequenceOutput, None]:
        sampling = call.request.sampling
        tokens = [*self.says(call).encode(), EOS][: sampling.max_tokens]
        fails = self.num_failing_calls is None or len(self.calls) <= self.num_failing_calls
        for place, token in enumerate(tokens):
            if place < len(call.request.output_token_ids):
                continue
            if fails and self.failure is not None and place == self.fails_after:
                raise self.failure
            if fails and self.fails_after == place:
                if self.ends_with is not None:
                    yield SequenceOutput(call.ticket.lease_id, finish_reason=self.ends_with, error="it broke")
                return
            if place == 1:
                self.began.set()
                if self.gate is not None:
                    await self.gate.wait()
            await asyncio.sleep(0)
            yield self._output(call, token, place, is_last=place == len(tokens) - 1)

    def _output(self, call: GenerateCall, token: int, place: int, *, is_last: bool) -> SequenceOutput:
        sampling = call.request.sampling
        reason = FinishReason.STOP if token == EOS else FinishReason.LENGTH
        prompt_logprobs = None
        if place == 0 and sampling.prompt_logprobs is not None:
            prompt_logprobs = [TokenLogprob(one, -2.0, [(one, -2.0)]) for one in call.request.prompt_token_ids[1:]]
        return SequenceOutput(
            lease_id=call.ticket.lease_id,
            token_ids=[token],
            logprobs=[] if sampling.logprobs is None else [_logprob(token, sampling.logprobs)],
            prompt_logprobs=prompt_logprobs,
            num_cached_tokens=self.num_cached_tokens,
            finish_reason=reason if is_last else None,
        )


def fake_service(handle: FakeHandle) -> ModelService:
    card = ModelCard(handle.name, created_s=1_700_000_000, max_model_len=4096)
    return ModelService(handle, ByteTokenizer(), card, InProcessJudge(), handle.num_embeddings)


def _logprob(token: int, num_top: int) -> TokenLogprob:
    top = [(token, -0.5), (ord("?"), -3.0)][:num_top]
    return TokenLogprob(token, -0.5, top)
