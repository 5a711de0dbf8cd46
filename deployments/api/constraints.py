"""Owns the grammar of an answer: what the form that was asked for, and the tools, let it be. Knows no llguidance.

An answer may be JSON, calls of tools, or text in which a call may begin. A call is written as most models learn it:

    <tool_call>
    {"name": "weather", "arguments": {"city": "Paris"}}
    </tool_call>

JSON stands on one line, with at most one blank after a comma or a colon: a model can fill no answer with blanks, and no
line break of an argument's can be taken for the end of a call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.api.openai_schemas import ChatCompletionRequest
from deployments.api.tool_schemas import ChosenFunction, ResponseFormat, Schema, Tool
from deployments.errors import ApiError, invalid

MAX_SCHEMA_BYTES = 64 * 1024
MAX_GRAMMAR_BYTES = 256 * 1024
MAX_CALLS = 16
CALL_BEGINS = '<tool_call>\n{"name": "'
ARGUMENTS_BEGIN = '", "arguments": '
CALL_ENDS = "}\n</tool_call>"
TRIGGER = "<tool_call>"
_FORM = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_OPTIONS = "x-guidance"
_COMBINING = ("$ref", "allOf", "anyOf", "oneOf", "patternProperties", "additionalProperties")
SCHEMA_PARAM = "response_format.json_schema.schema"


@dataclass(frozen=True, slots=True)
class Piece:
    """One schema of a request. param: the field that it came from."""

    name: str
    schema: Schema
    param: str

    def grammar(self) -> str:
        """The grammar of this schema alone."""
        return _written([{"name": self.name, "json_schema": self.schema}])


@dataclass(frozen=True, slots=True)
class Constraint:
    """The grammar of an answer, and the schemas in it."""

    grammar: str
    pieces: list[Piece] = field(default_factory=list)

    @property
    def param(self) -> str:
        """The field at fault where it is no one schema's."""
        return self.pieces[0].param if len(self.pieces) == 1 else "tools"


def is_bound(body: ChatCompletionRequest) -> bool:
    """Whether anything binds the answers to this request."""
    return body.response_format.type != "text" or bool(body.callable_tools)


def constraint_of(body: ChatCompletionRequest) -> Constraint:
    """What binds the answers to a request that asks for a form, or has tools. Long where its schemas are.

    Raises:
        ApiError: a schema is too large, or not one that we take; or a field contradicts it.
    """
    form = list(_form(body.response_format))
    callable_tools = [(place, tool) for place, tool in enumerate(body.tools) if _may_be_called(body, tool)]
    calls = [_arguments(place, tool) for place, tool in callable_tools]
    _check_beside(body, "response_format" if form else "tools")
    names = [tool.function.name for _, tool in callable_tools]
    start = _start(body, is_form=bool(form), is_call=bool(calls))
    grammars: list[dict[str, Any]] = [{"name": "answer", "lark_grammar": start + _calls(names, calls)}]
    grammars += [{"name": piece.name, "json_schema": piece.schema} for piece in (*form, *calls)]
    grammar = _written(grammars)
    constraint = Constraint(grammar, [*form, *calls])
    if len(grammar) > MAX_GRAMMAR_BYTES:
        raise _too_large(constraint.param, len(grammar), MAX_GRAMMAR_BYTES)
    return constraint


def refused(param: str, reason: str) -> ApiError:
    """The 400 for a schema that no answer can follow."""
    return invalid(f"{param}: cannot be followed: {reason}.", param, "invalid_value")


def _may_be_called(body: ChatCompletionRequest, tool: Tool) -> bool:
    if isinstance(body.tool_choice, ChosenFunction):
        return tool.function.name == body.tool_choice.function.name
    return body.tool_choice != "none"


def _check_beside(body: ChatCompletionRequest, cause: str) -> None:
    """Who has the answer follow a grammar leaves its end to the grammar."""
    if body.ignore_eos:
        raise invalid(f"ignore_eos: expected false beside {cause}.", "ignore_eos", "invalid_value")
    if body.min_tokens:
        raise invalid(f"min_tokens: got {body.min_tokens}; expected 0 beside {cause}.", "min_tokens", "invalid_value")


def _form(asked: ResponseFormat) -> Iterator[Piece]:
    if asked.type == "json_object":
        yield Piece("form", _prepared({"type": "object"}, "response_format", is_strict=True), "response_format")
    if asked.json_schema is not None:
        named = asked.json_schema
        schema = _prepared(named.schema_, SCHEMA_PARAM, is_strict=bool(named.strict))
        yield Piece("form", schema, SCHEMA_PARAM)


def _arguments(place: int, tool: Tool) -> Piece:
    """Arguments that `properties` does not name are allowed only where the schema says so itself."""
    param = f"tools[{place}].function.parameters"
    schema = tool.function.parameters or {"type": "object", "properties": {}}
    if schema.get("type", "object") != "object":
        raise invalid(f"{param}.type: expected 'object'.", param, "invalid_value")
    if "properties" in schema and not any(name in schema for name in _COMBINING):
        schema = {**schema, "additionalProperties": False}
    schema = _prepared({"type": "object", **schema}, param, is_strict=bool(tool.function.strict))
    return Piece(f"arguments_{place}", schema, param)


def _prepared(schema: Schema, param: str, *, is_strict: bool) -> Schema:
    """The schema with our options. Unless it is strict, keywords that cannot be followed are left out of account."""
    size = len(json.dumps(schema))
    if size > MAX_SCHEMA_BYTES:
        raise _too_large(param, size, MAX_SCHEMA_BYTES)
    if _OPTIONS in schema:
        raise invalid(f"{param}: unknown keyword {_OPTIONS!r}.", param, "invalid_value")
    for reference in _references(schema):
        if not reference.startswith("#"):
            message = f"{param}: $ref {reference[:100]!r} leads out of the schema; nothing is fetched."
            raise invalid(message, param, "invalid_value")
    return {**schema, _OPTIONS: {**_FORM, "lenient": not is_strict}}


def _references(value: object) -> Iterator[str]:
    """The body is not deep: whoever parsed it has seen to that."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("$ref", "$dynamicRef") and isinstance(inner, str):
                yield inner
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _start(body: ChatCompletionRequest, *, is_form: bool, is_call: bool) -> str:
    """The rule for a whole answer, in llguidance's Lark."""
    if not is_call:
        return "start: @form\n"
    more = f'("\\n" begin call){{0,{MAX_CALLS - 1}}}' if body.parallel_tool_calls else ""
    if body.tool_choice != "auto":
        return f"start: begin call {more}\n"
    if is_form:
        return f"start: @form | begin call {more}\n"
    said = f"said[lazy]: TEXT {_quoted(TRIGGER)}\ntext: TEXT\nTEXT: /(.|\\n)*/\n"
    return f"start: text | said call {more}\n{said}"


def _calls(names: Sequence[str], arguments: Sequence[Piece]) -> str:
    if not names:
        return ""
    ways = [
        f"call_{place}: {_quoted(name + ARGUMENTS_BEGIN)} @{piece.name}\n"
        for place, (name, piece) in enumerate(zip(names, arguments, strict=True))
    ]
    which = " | ".join(f"call_{place}" for place in range(len(names)))
    opening = _quoted(CALL_BEGINS.removeprefix(TRIGGER))
    return f"begin: {_quoted(TRIGGER)}\ncall: {opening} ({which}) {_quoted(CALL_ENDS)}\n{''.join(ways)}"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _written(grammars: list[dict[str, Any]]) -> str:
    return json.dumps({"grammars": grammars}, separators=(",", ":"))


def _too_large(param: str, size: int, limit: int) -> ApiError:
    return invalid(f"{param}: got {size} bytes of schema; expected at most {limit}.", param, "invalid_value")
