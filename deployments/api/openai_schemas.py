"""Owns what a client may send, field by field. Knows nothing of tokenisers, queues or answers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import FailFast, Field, field_validator, model_validator

from deployments.api.tool_schemas import (
    MAX_CALLS_OF_A_TURN,
    MAX_TOOLS,
    ResponseFormat,
    StrictModel,
    Tool,
    ToolCall,
    ToolChoice,
    check_form,
    check_tools,
)
from deployments.errors import ApiError, invalid

MAX_CHOICES = 128
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 1024
MAX_MESSAGES = 4096
MAX_PARTS = 1024
MAX_LOGPROBS = 20
MAX_LOGIT_BIASES = 1024
MAX_PRIORITY = 100.0
MAX_DEADLINE_MS = 86_400_000.0
MAX_TOKEN_ID_DIGITS = 18
INT64 = 2**63

Prompt = str | list[int]
_StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
_Stop = _StopString | Annotated[list[_StopString], Field(max_length=MAX_STOP_STRINGS)]
_TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=INT64)]], Field(min_length=1)]
_Prompts = str | _TokenIds | Annotated[list[str | _TokenIds], Field(min_length=1, max_length=MAX_CHOICES)]

# Fields of OpenAI's that we do not act on, with the values that ask for nothing: those pass, others are refused.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "audio": (),
    "best_of": (1,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": ("medium",),
    "web_search_options": (),
}
# Of these, the chat route acts on some.
_OF_CHAT = ("parallel_tool_calls", "response_format", "tool_choice", "tools")
# Fields of OpenAI's that label a request and cannot change its answer.
_LABELS = ("metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier")


# Lists of objects fail at their first fault: only one is told of, and there may be a million.


class StreamOptions(StrictModel):
    include_usage: bool = False
    include_obfuscation: bool = False


class RequestFields(StrictModel):
    """What the OpenAI routes share. Numbers that switch a filter off are its default."""

    model: str
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    min_tokens: Annotated[int, Field(ge=0)] = 0
    ignore_eos: bool = False
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: list[str] = Field(default_factory=list)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    user: str | None = None
    priority: Annotated[float, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    service_tier: str | None = None
    deadline_ms: Annotated[float, Field(gt=0, le=MAX_DEADLINE_MS)] | None = None

    _neutral: ClassVar[dict[str, tuple[object, ...]]] = _NEUTRAL

    @classmethod
    def neutral_fields(cls) -> dict[str, tuple[object, ...]]:
        """Fields that are not acted on, with the values that ask for nothing."""
        return cls._neutral

    @classmethod
    def label_fields(cls) -> tuple[str, ...]:
        """Fields that may have any value, because they change no answer."""
        return _LABELS

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields.keys() & cls._neutral.keys():
            if not any(_is_same(fields[name], neutral) for neutral in cls._neutral[name]):
                raise unsupported(name)
        dropped = cls._neutral.keys() | set(_LABELS)
        return {name: value for name, value in fields.items() if name not in dropped}

    @field_validator("stop", mode="before", json_schema_input_type=_Stop)
    @classmethod
    def _one_or_more_stops(cls, stop: object) -> object:
        stops = [stop] if isinstance(stop, str) else stop
        if isinstance(stops, list) and len(stops) > MAX_STOP_STRINGS:
            raise ValueError(f"at most {MAX_STOP_STRINGS} strings")
        if isinstance(stops, list) and "" in stops:
            raise ValueError("strings that are not empty")
        if isinstance(stops, list) and any(isinstance(one, str) and len(one) > MAX_STOP_CHARACTERS for one in stops):
            raise ValueError(f"strings of at most {MAX_STOP_CHARACTERS} characters")
        return stops

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _not_too_many_biases(cls, bias: object) -> object:
        if isinstance(bias, dict) and len(bias) > MAX_LOGIT_BIASES:
            raise invalid(
                f"logit_bias: got {len(bias)} entries; expected at most {MAX_LOGIT_BIASES}.",
                "logit_bias",
                "invalid_value",
            )
        return bias

    @field_validator("logit_bias")
    @classmethod
    def _token_ids(cls, bias: dict[str, float]) -> dict[str, float]:
        if not all(key.isascii() and key.isdigit() and len(key) <= MAX_TOKEN_ID_DIGITS for key in bias):
            raise ValueError("token ids as keys")
        return bias

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> RequestFields:
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options is only allowed when stream is true.", "stream_options")
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


# Of an assistant's turn that a client has read from an answer.
_EMPTY: tuple[tuple[str, object], ...] = (("annotations", []), ("tool_calls", []))


class TextPart(StrictModel):
    type: Literal["text"]
    text: str


class Message(StrictModel):
    """One turn. An assistant's turn may carry the empty fields that OpenAI's client writes back."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[list[TextPart], Field(max_length=MAX_PARTS), FailFast()]
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_CALLS_OF_A_TURN), FailFast()] = Field(
        default_factory=list
    )
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_fields(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        given = {name: value for name, value in fields.items() if value is not None and (name, value) not in _EMPTY}
        return {"content": [], **given} if given.get("tool_calls") else given

    @model_validator(mode="after")
    def _what_its_role_has(self) -> Message:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls in an assistant's turn only")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id in the turn of a tool, and only there")
        return self

    @field_validator("content", mode="before", json_schema_input_type=str | list[TextPart] | None)
    @classmethod
    def _one_or_more_parts(cls, content: object) -> object:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content)


class ChatCompletionRequest(RequestFields):
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), FailFast()]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    response_format: ResponseFormat = ResponseFormat(type="text")
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS), FailFast()] = Field(default_factory=list)
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True

    _neutral: ClassVar[dict[str, tuple[object, ...]]] = {
        name: values for name, values in _NEUTRAL.items() if name not in _OF_CHAT
    }

    @property
    def callable_tools(self) -> list[Tool]:
        """What the model may call in this answer."""
        return [] if self.tool_choice == "none" else self.tools

    @model_validator(mode="after")
    def _tools_and_form_that_go_together(self) -> ChatCompletionRequest:
        check_form(self.response_format)
        check_tools(self.tools, self.tool_choice)
        return self

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> ChatCompletionRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs is only allowed when logprobs is true.", "top_logprobs")
        return self


class CompletionRequest(RequestFields):
    """`max_tokens` 0 is for `echo`: the prompt's own text and log probabilities."""

    prompt: list[Prompt]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @field_validator("prompt", mode="before", json_schema_input_type=_Prompts)
    @classmethod
    def _one_or_more_prompts(cls, prompt: object) -> list[Prompt]:
        prompts = _as_prompts(prompt)
        if prompts is None:
            raise ValueError("a string, a list of strings, a list of token ids, or a list of those; none empty")
        return prompts

    @model_validator(mode="after")
    def _limits(self) -> CompletionRequest:
        if len(self.prompt) * self.n > MAX_CHOICES:
            raise invalid(f"prompts times n must be at most {MAX_CHOICES}, got {len(self.prompt) * self.n}.", "prompt")
        if self.max_tokens == 0 and not self.echo:
            raise invalid("max_tokens: got 0; expected at least 1 when echo is false.", "max_tokens")
        return self


class GenerateParams(StrictModel):
    """`max_length` counts prompt and answer."""

    max_length: Annotated[int, Field(ge=1)] = 512
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    priority: Annotated[float, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None


class GenerateRequest(GenerateParams):
    """The simple form: the parameters beside the prompt, or in `params`, not both."""

    prompt: Annotated[str, Field(min_length=1)]
    model: str | None = None
    params: GenerateParams | None = None

    @model_validator(mode="after")
    def _in_one_place(self) -> GenerateRequest:
        twice = self.model_fields_set & GenerateParams.model_fields.keys()
        if self.params is not None and twice:
            name = min(twice)
            raise invalid(f"{name} stands beside params; put it inside.", name)
        return self

    @property
    def settings(self) -> GenerateParams:
        return self if self.params is None else self.params


def unsupported(name: str) -> ApiError:
    """The 400 for a field of OpenAI's that would change the answer and that we do not act on."""
    return invalid(f"{name} is not supported with this value.", name, "unsupported_parameter")


def _is_same(value: object, other: object) -> bool:
    """As JSON has it: 0 is not false, and 1.0 is no whole number, though Python holds them equal."""
    return type(value) is type(other) and value == other


def _as_prompts(prompt: object) -> list[Prompt] | None:
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        return None
    if _is_token_ids(prompt):
        return [prompt]
    if all(isinstance(one, str) or _is_token_ids(one) for one in prompt):
        return prompt
    return None


def _is_token_ids(prompt: object) -> bool:
    if not isinstance(prompt, list) or not prompt:
        return False
    return all(type(token) is int and 0 <= token < INT64 for token in prompt)
