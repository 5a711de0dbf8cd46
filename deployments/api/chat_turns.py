"""Owns how messages, tools and their results become the turns that a chat template takes. Knows no tokenizer.

A template that speaks of tools as most do is given them as they are. Any other is given plain text in their place: what
there is to call and how, in a system turn; calls in the assistant's turns; results in the user's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from deployments.api.constraints import ARGUMENTS_BEGIN, CALL_BEGINS, CALL_ENDS
from deployments.api.openai_schemas import Message
from deployments.api.tool_schemas import Tool, ToolCall

Turn = dict[str, Any]


def native_turns(messages: Sequence[Message]) -> list[Turn]:
    """For a template that knows `tool_calls` and the role `tool`."""
    return [_native(message) for message in messages]


def native_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The tools as the client gave them."""
    return [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in tools]


def plain_turns(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Turn]:
    """For a template that knows roles and texts only."""
    turns = list(_plain(messages))
    if not tools:
        return turns
    if turns[0]["role"] == "system":
        return [{**turns[0], "content": f"{turns[0]['content']}\n\n{_instructions(tools)}"}, *turns[1:]]
    return [{"role": "system", "content": _instructions(tools)}, *turns]


def _native(message: Message) -> Turn:
    turn: Turn = {"role": _role(message), "content": message.text, **_named(message)}
    if message.tool_calls:
        turn["tool_calls"] = [_native_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _native_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _plain(messages: Sequence[Message]) -> Iterator[Turn]:
    """Results of calls that were made at once become one turn: some templates want roles to alternate."""
    for is_result, run in groupby(messages, key=lambda message: message.role == "tool"):
        if is_result:
            results = "\n".join(f"<tool_response>\n{message.text}\n</tool_response>" for message in run)
            yield {"role": "user", "content": results}
        else:
            yield from map(_plain_turn, run)


def _plain_turn(message: Message) -> Turn:
    content = "\n".join([*filter(None, [message.text]), *map(_plain_call, message.tool_calls)])
    return {"role": _role(message), "content": content, **_named(message)}


def _plain_call(call: ToolCall) -> str:
    arguments = json.dumps(json.loads(call.function.arguments), ensure_ascii=False)
    return f"{CALL_BEGINS}{call.function.name}{ARGUMENTS_BEGIN}{arguments}{CALL_ENDS}"


def _instructions(tools: Sequence[Tool]) -> str:
    described = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in native_tools(tools))
    example = f'{CALL_BEGINS}NAME{ARGUMENTS_BEGIN}{{"KEY": "VALUE"}}{CALL_ENDS}'
    return (
        "You can call functions. This is what each is for, and which arguments it takes:\n"
        f"<tools>\n{described}\n</tools>\n"
        "To call one, answer with its name and its arguments as JSON, like this:\n"
        f"{example}\n"
        "Call a function only if you need it; otherwise answer in plain text."
    )


def _role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def _named(message: Message) -> Turn:
    return {} if message.name is None else {"name": message.name}
