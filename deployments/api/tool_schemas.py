"""Owns what a client may say of tools and of the form of the answer. Knows nothing of grammars, prompts or answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from deployments.api.strict_json import MAX_DEPTH, is_deeper
from deployments.errors import invalid

MAX_TOOLS = 128
MAX_CALLS_OF_A_TURN = 128
MAX_DESCRIPTION_CHARACTERS = 16_384

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARACTERS)]
Schema = dict[str, Any]


class StrictModel(BaseModel):
    """No coercion, no unknown field, no number that is not finite."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class Function(StrictModel):
    """What the model may call. Without `parameters` it takes none."""

    name: Name
    description: Description | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(StrictModel):
    type: Literal["function"]
    function: Function


class ChosenName(StrictModel):
    name: Name


class ChosenFunction(StrictModel):
    """`tool_choice` that names the function to be called."""

    type: Literal["function"]
    function: ChosenName


ToolChoice = Literal["none", "auto", "required"] | ChosenFunction


class CalledFunction(StrictModel):
    """arguments: a JSON object, as text; nothing counts as one without members."""

    name: Name
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _an_object(cls, arguments: str) -> str:
        if not arguments.strip():
            return "{}"
        try:
            parsed = orjson.loads(arguments)  # takes no half of a surrogate pair, which no tokenizer would
        except orjson.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            raise ValueError("a JSON object, as text")
        if is_deeper(parsed, MAX_DEPTH):
            raise ValueError(f"a JSON object, as text, at most {MAX_DEPTH} deep")
        return arguments


class ToolCall(StrictModel):
    """A call in an assistant's turn. Clients that gathered it from a stream send its index back."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class NamedSchema(StrictModel):
    name: Name
    description: Description | None = None
    schema_: Annotated[Schema, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(StrictModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


def check_form(asked: ResponseFormat) -> None:
    """Raises ApiError: a schema where none belongs, or none where one does."""
    if (asked.json_schema is not None) != (asked.type == "json_schema"):
        message = "response_format.json_schema: expected with type json_schema, and only there."
        raise invalid(message, "response_format.json_schema", "invalid_value")


def check_tools(tools: Sequence[Tool], choice: ToolChoice) -> None:
    """Raises ApiError: two of one name, or a choice that is none of them."""
    names = [tool.function.name for tool in tools]
    for place, name in enumerate(names):
        if name in names[:place]:
            param = f"tools[{place}].function.name"
            raise invalid(f"{param}: the name {name!r} stands twice.", param, "invalid_value")
    if isinstance(choice, ChosenFunction) and choice.function.name not in names:
        raise invalid(f"tool_choice: no tool has the name {choice.function.name!r}.", "tool_choice", "invalid_value")
    if choice == "required" and not names:
        raise invalid("tool_choice: got 'required'; expected it beside tools only.", "tool_choice", "invalid_value")
