"""Owns the way from a validated body to token ids that fit the model. Knows nothing of queues, replicas or answers.

Every prompt takes the pool: even a short one costs more to tokenise than the hand-over to a thread does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.api.chat_turns import native_tools, native_turns, plain_turns
from deployments.api.model_service import ModelService
from deployments.api.openai_schemas import Message, Prompt
from deployments.api.scored_pool import ScoredPool
from deployments.api.tool_schemas import Tool
from deployments.errors import ApiError, invalid
from engine.tokenizer import TemplateRefused


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Renders and tokenises off the event loop, the best-scored request first."""

    pool: ScoredPool

    async def chat(
        self, model: ModelService, messages: Sequence[Message], key: float, tools: Sequence[Tool] = ()
    ) -> list[int]:
        """The token ids of the rendered conversation, the assistant's turn opened.

        Raises:
            ApiError: the template refuses the conversation, or the prompt leaves no room for an answer.
        """
        return _fitting(await self.pool.run(key, _encode_chat, model, messages, tools), model, "messages")

    async def prompts(self, model: ModelService, prompts: Sequence[Prompt], key: float) -> list[list[int]]:
        """The token ids of each prompt; what is token ids already is only checked."""
        encoded = await self.pool.run(key, _encode_prompts, model, prompts)
        return [_fitting(token_ids, model, "prompt") for token_ids in encoded]


def output_budget(
    model: ModelService, num_prompt_tokens: int, asked: int | None, default: int | None, param: str = "max_tokens"
) -> int:
    """How many tokens may be generated: what was asked for, else the default as far as the context allows.

    Raises:
        ApiError: more was asked for than the context has left.
    """
    left = model.max_model_len - num_prompt_tokens
    if asked is None:
        return left if default is None else min(left, default)
    if asked > left:
        raise invalid(
            f"{param}: got {asked}; expected at most {left}: the model's context is {model.max_model_len} tokens "
            f"and the prompt takes {num_prompt_tokens}.",
            param,
            "context_length_exceeded",
        )
    return asked


def _encode_chat(model: ModelService, messages: Sequence[Message], tools: Sequence[Tool]) -> list[int]:
    try:
        if model.tokenizer.speaks_tools:
            return model.tokenizer.encode_chat(native_turns(messages), native_tools(tools))
        return model.tokenizer.encode_chat(plain_turns(messages, tools))
    except TemplateRefused as refusal:
        raise invalid(f"messages: {refusal}.", "messages", "invalid_value") from None


def _encode_prompts(model: ModelService, prompts: Sequence[Prompt]) -> list[list[int]]:
    return [model.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]


def _fitting(token_ids: list[int], model: ModelService, param: str) -> list[int]:
    if not token_ids:
        raise invalid(f"{param}: got no tokens; expected at least one.", param)
    if len(token_ids) >= model.max_model_len:
        raise _too_long(len(token_ids), model, param)
    if (largest := max(token_ids)) >= model.vocab_size:
        raise invalid(f"{param}: got token id {largest}; expected less than {model.vocab_size}.", param)
    return token_ids


def _too_long(num_tokens: int, model: ModelService, param: str) -> ApiError:
    message = (
        f"The prompt has {num_tokens} tokens; the model's context is {model.max_model_len} tokens, "
        f"of which at least one is for the answer."
    )
    return invalid(message, param, "context_length_exceeded")
