"""Owns what is particular to each route: from its body to a plan and a format. Knows nothing of sending or of Ray."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from deployments.api.exchange import Asker, Prepared, Subject
from deployments.api.grammar_check import GrammarCheck
from deployments.api.model_service import ModelService
from deployments.api.openai_logprobs import EchoedPrompt, echoed_prompt
from deployments.api.openai_responses import ChatFormat, CompletionFormat, Envelope, GenerateFormat
from deployments.api.openai_schemas import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerateParams,
    GenerateRequest,
    RequestFields,
)
from deployments.api.preprocess import Preprocessor, output_budget
from deployments.api.request_plan import Draft, Plan, plan_choices, sampling_of
from deployments.api.standing import Standing
from deployments.errors import ApiError, invalid
from engine.protocol import SamplingParams
from scheduling.errors import DeadlinePassed

DEFAULT_COMPLETION_TOKENS = 16
# Of one request: they are all in memory at once.
MAX_ECHOED_LOGPROBS = 2**18
MAX_GATHERED_LOGPROBS = 2**22  # of an answer that is not streamed


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all flows use. clock: monotonic seconds; unix_clock: seconds since the epoch."""

    preprocessor: Preprocessor
    grammars: GrammarCheck
    clock: Callable[[], float]
    unix_clock: Callable[[], float]

    def key_of(self, subject: Subject, asker: Asker) -> float:
        """The key under which the request waits for preprocessing, before the queue has stamped it."""
        stamp = subject.standing.provisional_stamp(self.unix_clock())
        return asker.settings.score_policy().key(stamp)

    def draft(self, subject: Subject, asker: Asker, sampling: SamplingParams) -> Draft:
        """A draft of the request as it stands now: preprocessing has used up some of its deadline.

        Raises:
            DeadlinePassed: all of it.
        """
        standing = _with_time_left(subject.standing, self.clock() - asker.arrived_s)
        stamp = standing.provisional_stamp(self.unix_clock())
        policy = asker.settings.score_policy()
        failover = asker.settings.failover
        return Draft(asker.request_id, subject.model, standing, stamp, policy, sampling, failover=failover)

    def envelope(self, prefix: str, model: ModelService, *, with_usage: bool) -> Envelope:
        return Envelope(f"{prefix}-{_mint_id()}", int(self.unix_clock()), model.name, with_usage)


@dataclass(frozen=True, slots=True)
class ChatFlow:
    """`POST /v1/chat/completions`."""

    workshop: Workshop
    schema: ClassVar[type[ChatCompletionRequest]] = ChatCompletionRequest

    async def prepare(self, body: ChatCompletionRequest, subject: Subject, asker: Asker) -> Prepared:
        num_logprobs = (body.top_logprobs or 0) if body.logprobs else None
        sampling = sampling_of(body, subject.model, num_logprobs)
        key = self.workshop.key_of(subject, asker)
        constraint = await self.workshop.grammars.constraint_of(body, subject.model.grammars, key)
        if constraint is not None:
            sampling = replace(sampling, grammar=constraint.grammar)
        prompt = await self.workshop.preprocessor.chat(subject.model, body.messages, key, body.callable_tools)
        budget = _checked_budget(body, _chat_budget(body, subject.model, len(prompt)))
        _check_gathered(body, num_logprobs, budget, "top_logprobs" if body.top_logprobs else "logprobs")
        draft = replace(
            self.workshop.draft(subject, asker, sampling),
            stops=tuple(body.stop),
            n=body.n,
            grammar_param=None if constraint is None else constraint.param,
        )
        envelope = self.workshop.envelope("chatcmpl", subject.model, with_usage=body.include_usage)
        mint_id = _mint_id if body.callable_tools else None
        shape = ChatFormat(envelope, subject.model.tokenizer, num_logprobs, mint_id)
        return Prepared(plan_choices(draft, [prompt], [budget], _mint_id), shape, body.stream, body.include_usage)


@dataclass(frozen=True, slots=True)
class CompletionFlow:
    """`POST /v1/completions`. `max_tokens` 0 runs for one token that nobody sees: the prompt was asked for."""

    workshop: Workshop
    schema: ClassVar[type[CompletionRequest]] = CompletionRequest

    async def prepare(self, body: CompletionRequest, subject: Subject, asker: Asker) -> Prepared:
        sampling = sampling_of(body, subject.model, body.logprobs)
        if body.echo and body.logprobs is not None:
            sampling = replace(sampling, prompt_logprobs=body.logprobs)
        key = self.workshop.key_of(subject, asker)
        prompts = await self.workshop.preprocessor.prompts(subject.model, body.prompt, key)
        _check_echo(body, sum(map(len, prompts)))
        budgets = [self._budget(body, subject.model, prompt) for prompt in prompts]
        _check_gathered(body, body.logprobs, sum(budgets), "logprobs")
        draft = replace(
            self.workshop.draft(subject, asker, sampling),
            stops=tuple(body.stop),
            n=body.n,
            is_seed_given=body.seed is not None,
        )
        plan = plan_choices(draft, prompts, budgets, _mint_id)
        envelope = self.workshop.envelope("cmpl", subject.model, with_usage=body.include_usage)
        echoes = await self._echoes(plan, key) if body.echo else []
        shape = CompletionFormat(envelope, subject.model.tokenizer, body.logprobs, echoes)
        return Prepared(plan, shape, body.stream, body.include_usage, shows_output=body.max_tokens != 0)

    async def _echoes(self, plan: Plan, key: float) -> list[EchoedPrompt]:
        """Each choice's prompt as text, spelt off the event loop."""
        tokenizer = plan.model.tokenizer
        run = self.workshop.preprocessor.pool.run
        spelt = [await run(key, echoed_prompt, tokenizer, prompt) for prompt in plan.prompts]
        return [echo for echo in spelt for _ in range(plan.n)]

    def _budget(self, body: CompletionRequest, model: ModelService, prompt: list[int]) -> int:
        asked = 1 if body.max_tokens == 0 else body.max_tokens
        return _checked_budget(body, output_budget(model, len(prompt), asked, DEFAULT_COMPLETION_TOKENS))


@dataclass(frozen=True, slots=True)
class GenerateFlow:
    """`POST /generate`: a bare prompt, no chat template; `max_length` counts prompt and answer."""

    workshop: Workshop
    schema: ClassVar[type[GenerateRequest]] = GenerateRequest

    async def prepare(self, body: GenerateRequest, subject: Subject, asker: Asker) -> Prepared:
        settings = body.settings
        fields = RequestFields(model=subject.model.name, temperature=settings.temperature, top_p=settings.top_p)
        sampling = sampling_of(fields, subject.model, None)
        key = self.workshop.key_of(subject, asker)
        [prompt] = await self.workshop.preprocessor.prompts(subject.model, [body.prompt], key)
        budget = _length_budget(settings, len(prompt), subject.model.max_model_len)
        draft = self.workshop.draft(subject, asker, sampling)
        return Prepared(plan_choices(draft, [prompt], [budget], _mint_id), GenerateFormat(subject.model.name))


def _mint_id() -> str:
    return secrets.token_hex(12)


def _checked_budget(body: RequestFields, budget: int) -> int:
    if body.min_tokens > budget:
        raise invalid(f"min_tokens: got {body.min_tokens}; expected at most max_tokens, {budget}.", "min_tokens")
    return budget


def _check_echo(body: CompletionRequest, num_prompt_tokens: int) -> None:
    if not body.echo or body.logprobs is None:
        return
    num_each = body.logprobs + 1
    num_logprobs = num_prompt_tokens * body.n * num_each
    if num_logprobs > MAX_ECHOED_LOGPROBS:
        counted = f"{num_logprobs} to echo ({num_prompt_tokens} prompt tokens"
        raise _too_many_logprobs("logprobs", counted, body.n, num_each, f"{MAX_ECHOED_LOGPROBS}")


def _check_gathered(body: RequestFields, num_top: int | None, num_tokens: int, param: str) -> None:
    """num_tokens: the longest answers to all prompts."""
    if body.stream or num_top is None:
        return
    num_each = num_top + 1
    num_logprobs = num_tokens * body.n * num_each
    if num_logprobs > MAX_GATHERED_LOGPROBS:
        counted = f"{num_logprobs} in one answer ({num_tokens} of max_tokens"
        limit = f"{MAX_GATHERED_LOGPROBS} unless stream is true, which has no such bound"
        raise _too_many_logprobs(param, counted, body.n, num_each, limit)


def _too_many_logprobs(param: str, counted: str, n: int, num_each: int, limit: str) -> ApiError:
    return invalid(
        f"{param}: got {counted} times n, {n}, times {param} and the token's own, {num_each}); "
        f"expected at most {limit}.",
        param,
        "invalid_value",
    )


def _chat_budget(body: ChatCompletionRequest, model: ModelService, num_prompt_tokens: int) -> int:
    """The newer name wins where both are given; with neither, the rest of the context."""
    if body.max_completion_tokens is not None:
        return output_budget(model, num_prompt_tokens, body.max_completion_tokens, None, "max_completion_tokens")
    return output_budget(model, num_prompt_tokens, body.max_tokens, None)


def _length_budget(settings: GenerateParams, num_prompt_tokens: int, max_model_len: int) -> int:
    """What `max_length` leaves for the answer; its default gives way to a smaller context."""
    is_default = "max_length" not in settings.model_fields_set
    max_length = min(settings.max_length, max_model_len) if is_default else settings.max_length
    if num_prompt_tokens < max_length <= max_model_len:
        return max_length - num_prompt_tokens
    raise invalid(
        f"max_length: got {max_length}; expected from {num_prompt_tokens + 1} (the prompt and one token) "
        f"to {max_model_len} (the model's context).",
        "max_length",
        "context_length_exceeded",
    )


def _with_time_left(standing: Standing, elapsed_s: float) -> Standing:
    if standing.deadline_s is None:
        return standing
    if elapsed_s >= standing.deadline_s:
        raise DeadlinePassed(standing.deadline_s, elapsed_s)
    return replace(standing, deadline_s=standing.deadline_s - elapsed_s)
