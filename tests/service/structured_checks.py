"""Forms of answers and calls of tools, as the unmodified `openai` client sees them on a model that learnt neither."""

from __future__ import annotations

import json
from typing import Any, Literal

import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.service.conftest import MODEL

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Describe the weather in Paris."}]
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sky": {"enum": ["sunny", "cloudy", "rainy"]},
        "degrees": {"type": "integer", "minimum": -40, "maximum": 50},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3},
    },
    "required": ["sky", "degrees", "words"],
    "additionalProperties": False,
}
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "show_weather", "description": "Shows the weather.", "parameters": WEATHER, "strict": True},
}


class Report(BaseModel):
    sky: Literal["sunny", "cloudy", "rainy"]
    degrees: int


def check_answers_fit_their_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        n=4,
        temperature=1,
        seed=1,
        max_tokens=200,
        response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER, "strict": True}},
    )
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content or ""), WEATHER)


def check_a_streamed_answer_fits_its_schema(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=1,
        seed=2,
        max_tokens=200,
        stream=True,
        response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}},
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    jsonschema.validate(json.loads(text), WEATHER)


def check_an_answer_becomes_an_object_of_the_clients(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Report, temperature=1, seed=3, max_tokens=100
    )
    assert isinstance(answer.choices[0].message.parsed, Report)


def check_a_json_object_is_one(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=300, response_format={"type": "json_object"}
    )
    text = answer.choices[0].message.content or ""
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert text.startswith("{")


def check_a_tool_is_called_where_it_must_be(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        tools=[TOOL],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=1,
        seed=4,
        max_tokens=200,
    )
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [made] = choice.message.tool_calls or []
    assert made.type == "function"
    assert made.function.name == "show_weather"
    jsonschema.validate(json.loads(made.function.arguments), WEATHER)


def check_a_streamed_call_is_the_same_call(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": QUESTION,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "show_weather"}},
        "parallel_tool_calls": False,
        "temperature": 1,
        "seed": 5,
        "max_tokens": 200,
    }
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls[0].function
    with client.chat.completions.stream(**asked) as stream:
        last = stream.get_final_completion()
    [streamed] = last.choices[0].message.tool_calls or []
    assert (streamed.function.name, streamed.function.arguments) == (whole.name, whole.arguments)
    assert last.choices[0].finish_reason == "tool_calls"


def check_a_result_is_taken_and_answered(client: openai.OpenAI) -> None:
    called: Any = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "show_weather", "arguments": '{"sky": "sunny"}'}}
        ],
    }
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "It is sunny, 21 degrees."}
    answer = client.chat.completions.create(
        model=MODEL, messages=[*QUESTION, called, result], tools=[TOOL], temperature=0, max_tokens=60
    )
    message = answer.choices[0].message
    assert message.content or message.tool_calls


def check_a_schema_that_nothing_fits_is_refused(client: openai.OpenAI) -> None:
    for schema in ({"$ref": "#"}, {"type": "integer", "multipleOf": 9_999_973}):
        form: Any = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=MODEL, messages=QUESTION, response_format=form)
        assert refused.value.param == "response_format.json_schema.schema"


STRUCTURED_CHECKS = [
    check_answers_fit_their_schema,
    check_a_streamed_answer_fits_its_schema,
    check_an_answer_becomes_an_object_of_the_clients,
    check_a_json_object_is_one,
    check_a_tool_is_called_where_it_must_be,
    check_a_streamed_call_is_the_same_call,
    check_a_result_is_taken_and_answered,
    check_a_schema_that_nothing_fits_is_refused,
]
