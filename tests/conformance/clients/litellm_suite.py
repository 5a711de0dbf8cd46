"""What `litellm` must get when it takes the service for OpenAI."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pytest

from tests.conformance.clients.target import ANSWER, BASE_URL, CAPITAL, MODEL

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


def asked(**more: Any) -> dict[str, Any]:
    shared = {"api_base": BASE_URL, "api_key": "unused", "temperature": 0, "max_tokens": 64, "num_retries": 0}
    return {"model": f"openai/{MODEL}", "messages": CAPITAL, **shared, **more}


def text_asked(**more: Any) -> dict[str, Any]:
    given = {name: value for name, value in asked(**more).items() if name != "messages"}
    return {**given, "model": f"text-completion-openai/{MODEL}", "prompt": "The capital of France is"}


def test_an_answer_has_its_text_its_end_and_its_usage() -> None:
    answer = litellm.completion(**asked())
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_is_the_answer_in_pieces_and_ends_with_its_usage() -> None:
    chunks = list(litellm.completion(**asked(stream=True, stream_options={"include_usage": True})))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert len(chunks) > 3
    assert chunks[-1].usage.completion_tokens > 3


async def test_a_coroutine_gets_the_same_answer() -> None:
    answer = await litellm.acompletion(**asked())
    assert answer.choices[0].message.content == ANSWER


async def test_a_coroutine_gets_the_same_stream() -> None:
    chunks = [chunk async for chunk in await litellm.acompletion(**asked(stream=True))]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER


def test_a_plain_completion_goes_on_from_the_prompt() -> None:
    answer = litellm.text_completion(**text_asked())
    assert "Paris" in answer.choices[0].text


def test_a_plain_completion_streams() -> None:
    chunks = list(litellm.text_completion(**text_asked(stream=True)))
    assert "Paris" in "".join(chunk.choices[0].text or "" for chunk in chunks)
    assert len(chunks) > 3


def test_a_schema_is_kept() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": COLOUR, "strict": True}}
    answer = litellm.completion(**asked(response_format=form))
    assert json.loads(answer.choices[0].message.content)["colour"] in ("red", "blue")


def test_a_tool_is_called_with_arguments_that_fit_it() -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    answer = litellm.completion(**asked(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False))
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_field_of_ours_goes_through() -> None:
    answer = litellm.completion(**asked(extra_body={"priority": 10}))
    assert answer.choices[0].message.content == ANSWER


def test_a_bad_value_is_its_bad_request() -> None:
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.completion(**asked(temperature=5))


def test_an_unknown_model_is_its_not_found() -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**asked(model="openai/no-such-model"))
