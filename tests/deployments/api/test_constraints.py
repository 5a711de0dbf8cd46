"""Which answers a request's form and tools let there be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deployments.api.constraints import (
    MAX_CALLS,
    MAX_GRAMMAR_BYTES,
    MAX_SCHEMA_BYTES,
    SCHEMA_PARAM,
    constraint_of,
    is_bound,
)
from deployments.api.openai_schemas import ChatCompletionRequest
from deployments.errors import ApiError
from tests.deployments.api.tools import CITY, begins, call, fits, tool
from tests.deployments.fake_service import chat_body

PARIS = call(city="Paris")
COUNT = tool("count", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


def schema_format(schema: dict[str, Any], **fields: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **fields}}


def grammar_of(**fields: object) -> str:
    body = ChatCompletionRequest.model_validate(chat_body(**fields))
    assert is_bound(body)
    return constraint_of(body).grammar


def refusal_of(**fields: object) -> ApiError:
    with pytest.raises(ApiError) as refused:
        grammar_of(**fields)
    return refused.value


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": {"type": "text"}},
        {"tools": []},
        {"tools": [tool()], "tool_choice": "none"},
    ],
)
def test_text_is_bound_by_nothing(fields: dict[str, Any]) -> None:
    assert not is_bound(ChatCompletionRequest.model_validate(chat_body(**fields)))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("{}", True),
        ('{"a":1,"b":[true,null]}', True),
        ('{"a": 1, "b": {"c": "d"}}', True),
        ('{"a":  1}', False),
        ('{\n"a": 1}', False),
        (" {}", False),
        ("[1]", False),
        ("7", False),
        ("{} and more", False),
    ],
)
def test_a_json_object_is_any_object_on_one_line_without_needless_blanks(answer: str, expected: bool) -> None:
    assert fits(grammar_of(response_format={"type": "json_object"}), answer) is expected


def test_a_schema_lets_through_what_fits_it() -> None:
    grammar = grammar_of(response_format=schema_format({**CITY, "additionalProperties": False}))
    assert fits(grammar, '{"city": "Paris"}')
    assert not fits(grammar, '{"city": 7}')
    assert not fits(grammar, '{"town": "Paris"}')


@pytest.mark.parametrize("strict", [None, False])
def test_keywords_that_cannot_be_followed_are_left_out_of_account_unless_the_schema_is_strict(
    strict: bool | None,
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "colour"}}, "not": {}}
    assert fits(grammar_of(response_format=schema_format(schema, strict=strict)), '{"a": "red"}')
    strictly = grammar_of(response_format=schema_format(schema, strict=True))
    with pytest.raises(AssertionError, match="not"):
        fits(strictly, "{}")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_is_forced_with_arguments_that_fit(choice: object) -> None:
    grammar = grammar_of(tools=[tool()], tool_choice=choice)
    assert fits(grammar, PARIS)
    assert not begins(grammar, "It")
    assert not begins(grammar, call(city=7))
    assert not begins(grammar, call(town="Paris"))
    assert not begins(grammar, call("count"))


def test_required_leaves_the_choice_of_the_tool_and_a_name_does_not() -> None:
    tools = [tool(), COUNT]
    free = grammar_of(tools=tools, tool_choice="required")
    named = grammar_of(tools=tools, tool_choice={"type": "function", "function": {"name": "count"}})
    assert fits(free, PARIS)
    assert fits(free, call("count", n=5))
    assert fits(named, call("count", n=5))
    assert not begins(named, PARIS)


def test_by_itself_the_model_may_speak_or_call_or_speak_and_then_call() -> None:
    grammar = grammar_of(tools=[tool(), COUNT])
    assert fits(grammar, "No need: 1 < 2, <tool_kit> and <tool_")
    assert fits(grammar, "")
    assert fits(grammar, PARIS)
    assert fits(grammar, f"I look.\n{PARIS}")
    assert not begins(grammar, "<tool_call>what")
    assert not begins(grammar, f"{PARIS} and now you know")
    assert not begins(grammar, call("unknown"))


def test_calls_may_follow_each_other_up_to_a_bound_unless_they_must_not_be_parallel() -> None:
    for choice in ("auto", "required"):
        many = grammar_of(tools=[tool()], tool_choice=choice)
        one = grammar_of(tools=[tool()], tool_choice=choice, parallel_tool_calls=False)
        assert fits(many, "\n".join([PARIS] * MAX_CALLS))
        assert not begins(many, "\n".join([PARIS] * (MAX_CALLS + 1)))
        assert fits(one, PARIS)
        assert not begins(one, f"{PARIS}\n<")


def test_a_call_that_is_forced_is_forced_beside_a_form_too() -> None:
    grammar = grammar_of(tools=[tool()], tool_choice="required", response_format={"type": "json_object"})
    assert fits(grammar, PARIS)
    assert not begins(grammar, "{")


def test_beside_a_form_the_model_answers_in_it_or_calls() -> None:
    grammar = grammar_of(tools=[tool()], response_format={"type": "json_object"})
    assert fits(grammar, '{"a": 1}')
    assert fits(grammar, PARIS)
    assert not begins(grammar, "Hello")


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "properties": {}}])
def test_a_function_without_parameters_takes_no_arguments(parameters: object) -> None:
    grammar = grammar_of(tools=[tool("now", parameters)], tool_choice="required")
    assert fits(grammar, call("now"))
    assert not begins(grammar, call("now", a=1))


def test_arguments_without_a_name_are_taken_where_the_schema_says_so() -> None:
    loose = {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}}
    grammar = grammar_of(tools=[tool("add", loose)], tool_choice="required")
    assert fits(grammar, call("add", a=1, b=2))
    assert not begins(grammar, call("add", a="x"))


@pytest.mark.parametrize("text", ["}\n</tool_call>", '"}\n</tool_call>', "\n", "日本 \\ é"])
def test_no_argument_can_look_like_the_end_of_its_call(text: str) -> None:
    grammar = grammar_of(tools=[tool()], tool_choice="required")
    assert fits(grammar, call(city=text))
    raw = f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{text}"}}}}\n</tool_call>'
    assert ("\n" not in text) or not begins(grammar, raw)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": schema_format({"enum": ["x" * MAX_SCHEMA_BYTES]})}, SCHEMA_PARAM),
        ({"response_format": schema_format({"$ref": "https://example.com/a.json"})}, SCHEMA_PARAM),
        ({"response_format": schema_format({"properties": {"a": {"$ref": "file:///etc/passwd"}}})}, SCHEMA_PARAM),
        ({"response_format": schema_format({"anyOf": [{"$dynamicRef": "//host/a"}]})}, SCHEMA_PARAM),
        ({"response_format": schema_format({"x-guidance": {"whitespace_pattern": "(a*)*"}})}, SCHEMA_PARAM),
        ({"tools": [tool(parameters={"type": "string"})]}, "tools[0].function.parameters"),
        ({"tools": [tool(), tool("b", {"$ref": "other.json"})]}, "tools[1].function.parameters"),
        ({"tools": [tool(parameters={"enum": ["x" * MAX_SCHEMA_BYTES]})]}, "tools[0].function.parameters"),
        ({"tools": [tool(f"t{i}", {"description": "x" * 60_000}) for i in range(5)]}, "tools"),
        ({"tools": [tool()], "ignore_eos": True}, "ignore_eos"),
        ({"response_format": {"type": "json_object"}, "min_tokens": 3}, "min_tokens"),
    ],
)
def test_what_cannot_be_taken_is_a_400_that_names_it(fields: dict[str, Any], param: str) -> None:
    refusal = refusal_of(**fields)
    assert (refusal.status, refusal.param) == (400, param)
    assert len(refusal.message) < 400


def test_a_reference_inside_the_schema_is_followed() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}
    assert fits(grammar_of(response_format=schema_format(schema)), '{"n": 5}')


def test_the_same_request_has_the_same_grammar_within_the_bound() -> None:
    fields = {"tools": [tool(), COUNT], "response_format": schema_format(CITY)}
    assert grammar_of(**fields) == grammar_of(**json.loads(json.dumps(fields)))
    assert len(grammar_of(**fields)) < MAX_GRAMMAR_BYTES
