"""Messages and tools as turns: for templates that know of tools, and for those that do not."""

from __future__ import annotations

import json

from deployments.api.chat_turns import native_tools, native_turns, plain_turns
from deployments.api.openai_schemas import Message
from deployments.api.tool_schemas import Tool
from tests.deployments.api.tools import call, tool

WEATHER = Tool.model_validate(tool(description="Says the weather", strict=True))
CALLED = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
}


def messages(*turns: dict[str, object]) -> list[Message]:
    return [Message.model_validate(turn) for turn in turns]


CONVERSATION = messages(
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALLED, {**CALLED, "id": "call_2"}]},
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
    {"role": "tool", "tool_call_id": "call_2", "content": "rainy", "name": "weather"},
    {"role": "user", "content": "<tool_response>\nmine\n</tool_response>"},
)


def test_a_template_that_knows_tools_gets_calls_with_their_arguments_as_objects_and_results_as_turns() -> None:
    turns = native_turns(CONVERSATION)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "tool", "user"]
    assert turns[1]["content"] == ""
    assert turns[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Zürich"}}
    assert (turns[2]["content"], turns[2]["tool_call_id"]) == ("sunny", "call_1")


def test_a_template_that_knows_tools_gets_them_without_what_is_no_matter_of_the_models() -> None:
    [shown] = native_tools([WEATHER])
    assert shown["function"]["description"] == "Says the weather"
    assert shown["function"]["parameters"]["required"] == ["city"]
    assert "strict" not in shown["function"]


def test_any_other_template_gets_calls_as_the_model_writes_them_and_all_their_results_in_one_turn() -> None:
    turns = plain_turns(CONVERSATION[:4], [])
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == "\n".join([call(city="Zürich")] * 2)
    assert turns[2]["content"].count("<tool_response>") == 2


def test_a_users_own_turn_stays_its_own() -> None:
    assert [turn["role"] for turn in plain_turns(CONVERSATION, [])] == ["user", "assistant", "user", "user"]


def test_any_other_template_gets_the_tools_in_a_system_turn_of_ours() -> None:
    [system, user] = plain_turns(messages({"role": "user", "content": "Hi"}), [WEATHER])
    assert (system["role"], user["content"]) == ("system", "Hi")
    assert json.dumps(native_tools([WEATHER])[0]) in system["content"]
    assert "<tool_call>" in system["content"]


def test_the_tools_stand_after_what_the_operators_system_turn_says() -> None:
    turns = plain_turns(
        messages({"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hi"}), [WEATHER]
    )
    assert [turn["role"] for turn in turns] == ["system", "user"]
    assert turns[0]["content"].startswith("Be kind.\n\n")


def test_without_tools_a_conversation_is_what_it_was() -> None:
    assert plain_turns(messages({"role": "user", "content": "Hi", "name": "ann"}), []) == [
        {"role": "user", "content": "Hi", "name": "ann"}
    ]
