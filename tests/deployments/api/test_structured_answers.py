"""`response_format` and `tools` on the chat route: what reaches the engine, what comes back, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.grammar_trial import TrialBroken
from engine.protocol import FinishReason
from tests.deployments.api.test_constraints import schema_format
from tests.deployments.api.tools import CITY, call, fits, tool
from tests.deployments.fake_model import FakeHandle, InProcessJudge
from tests.deployments.fake_service import Service, events_of, serving

CALLED = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
ROOMY = 4096


def saying(answer: str) -> FakeHandle:
    return FakeHandle(says=lambda _: answer, max_model_len=ROOMY)


def prompt_of(service: Service) -> str:
    return bytes(service.handle.calls[-1].request.prompt_token_ids).decode()


async def test_a_schema_reaches_the_engine_as_a_grammar() -> None:
    async with serving(saying('{"city": "Paris"}')) as service:
        response = await service.chat(response_format=schema_format(CITY, strict=None, description=None))
    [engine_call] = service.handle.calls
    assert fits(engine_call.request.sampling.grammar or "", '{"city": "Paris"}')
    assert response.json()["choices"][0]["message"] == {
        "role": "assistant",
        "content": '{"city": "Paris"}',
        "refusal": None,
    }


async def test_text_has_no_grammar() -> None:
    async with serving() as service:
        await service.chat(response_format={"type": "text"}, tools=[tool()], tool_choice="none")
    assert service.handle.calls[0].request.sampling.grammar is None
    assert "weather" not in prompt_of(service)


async def test_every_choice_follows_the_grammar() -> None:
    async with serving(saying("{}")) as service:
        await service.chat(n=3, response_format={"type": "json_object"})
    assert len({engine_call.request.sampling.grammar for engine_call in service.handle.calls}) == 1
    assert len(service.handle.calls) == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": schema_format({"type": "nothing"})}, "response_format.json_schema.schema"),
        ({"response_format": schema_format({"$ref": "#"})}, "response_format.json_schema.schema"),
        ({"response_format": schema_format({"oneOf": [{}, {}]}, strict=True)}, "response_format.json_schema.schema"),
        ({"tools": [tool(parameters={"properties": {"a": 7}})]}, "tools[0].function.parameters"),
        (
            {"tools": [tool(), tool("b", {"properties": {"a": {"pattern": "("}}})], "tool_choice": "required"},
            "tools[1].function.parameters",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_schema_that_no_answer_can_follow_is_a_400_and_reaches_no_engine(
    fields: dict[str, Any], param: str, stream: bool
) -> None:
    async with serving() as service:
        response = await service.chat(stream=stream, **fields)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["type"], error["code"]) == (param, "invalid_request_error", "invalid_value")
    assert service.handle.calls == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools[0]."),
        ({"tools": [tool("no spaces")]}, "tools[0].function.name"),
        ({"tools": [tool(), tool()]}, "tools[1].function.name"),
        ({"tools": [tool(f"t{i}") for i in range(129)]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "b"}}}, "tool_choice"),
        ({"tools": [tool()], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 7}}},
            "response_format.json_schema.schema",
        ),
        ({"messages": [{"role": "tool", "content": "42"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "Hi", "tool_calls": [CALLED]}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "Hi", "tool_call_id": "a"}]}, "messages[0]"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{**CALLED, "function": {"name": "a", "arguments": "[1]"}}]}
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"functions": [{"name": "a"}]}, "functions"),
        ({"function_call": {"name": "a"}}, "function_call"),
    ],
)
async def test_what_is_wrong_with_tools_is_a_400_that_names_it(fields: dict[str, Any], param: str) -> None:
    async with serving() as service:
        response = await service.chat(**fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(param)
    assert service.handle.calls == []


@pytest.mark.parametrize(
    "arguments",
    ['{"a": "\\ud800"}', '{"a": ' + "[" * 900 + "]" * 900 + "}", '{"a": NaN}', '{"a": 1e999}', '{"a": ', "7"],
)
async def test_arguments_that_no_template_could_show_are_refused_as_a_bodys_own_json_is(arguments: str) -> None:
    turn = {"role": "assistant", "tool_calls": [{**CALLED, "function": {"name": "a", "arguments": arguments}}]}
    async with serving() as service:
        response = await service.chat(messages=[turn, {"role": "tool", "tool_call_id": "call_1", "content": "42"}])
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages[0].tool_calls[0].function.arguments"


async def test_completions_take_neither_form_nor_tools() -> None:
    async with serving() as service:
        form = await service.complete(response_format={"type": "json_object"})
        tools = await service.complete(tools=[tool()])
    assert [answer.json()["error"]["param"] for answer in (form, tools)] == ["response_format", "tools"]


async def test_the_prompt_shows_the_tools() -> None:
    async with serving(saying("Hello!")) as service:
        await service.chat(tools=[tool(description="Says the weather", strict=None)], tool_choice=None)
    assert "Says the weather" in prompt_of(service)


async def test_calls_of_an_answer_are_its_tool_calls() -> None:
    async with serving(saying(f"I look.\n{call(city='Paris')}\n{call(city='Rome')}")) as service:
        response = await service.chat(tools=[tool()], max_tokens=ROOMY // 2)
    [choice] = response.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    first, second = choice["message"]["tool_calls"]
    assert first["type"] == "function"
    assert first["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert json.loads(second["function"]["arguments"]) == {"city": "Rome"}
    assert first["id"] != second["id"]
    assert first["id"].startswith("call_")


async def test_beside_calls_no_text_is_null() -> None:
    async with serving(saying(call(city="Paris"))) as service:
        response = await service.chat(tools=[tool()], tool_choice="required")
    assert response.json()["choices"][0]["message"]["content"] is None


async def test_an_answer_without_calls_is_text() -> None:
    async with serving(saying("No need. ")) as service:
        response = await service.chat(tools=[tool()])
    [choice] = response.json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": "No need. ", "refusal": None}
    assert choice["finish_reason"] == "stop"


async def test_without_tools_text_that_looks_like_a_call_is_text() -> None:
    async with serving(saying(call(city="Paris"))) as service:
        response = await service.chat()
    [choice] = response.json()["choices"]
    assert choice["message"]["content"] == call(city="Paris")
    assert choice["finish_reason"] == "stop"


async def test_a_stream_of_calls_has_a_head_for_each_and_then_its_arguments() -> None:
    async with serving(saying(f"I look.\n{call(city='Paris')}\n{call(city='Rome')}")) as service:
        response = await service.chat(tools=[tool()], stream=True)
    *chunks, done = events_of(response)
    assert done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == "I look."
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    heads = [piece for piece in pieces if "id" in piece]
    assert [(head["index"], head["type"], head["function"]) for head in heads] == [
        (0, "function", {"name": "weather", "arguments": ""}),
        (1, "function", {"name": "weather", "arguments": ""}),
    ]
    arguments = ["".join(p["function"]["arguments"] for p in pieces if p["index"] == index) for index in (0, 1)]
    assert arguments == ['{"city": "Paris"}', '{"city": "Rome"}']
    assert len([piece for piece in pieces if piece["index"] == 0]) > 3
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert [reason for reason in reasons if reason] == ["tool_calls"]
    assert reasons[-1] == "tool_calls"


async def test_a_streamed_text_is_whole_where_tools_were_not_called() -> None:
    async with serving(saying("No <tool> is \n needed <")) as service:
        response = await service.chat(tools=[tool()], stream=True)
    *chunks, _ = events_of(response)
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == "No <tool> is \n needed <"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"][0]["finish_reason"]] == [
        "stop"
    ]


async def test_log_probabilities_come_for_every_token_of_a_streamed_call() -> None:
    async with serving(saying(call(city="Paris"))) as service:
        response = await service.chat(tools=[tool()], stream=True, logprobs=True)
    *chunks, _ = events_of(response)
    shown = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert sum(len(logprobs["content"]) for logprobs in shown if logprobs) == len(call(city="Paris")) + 1


async def test_an_answer_that_is_cut_in_a_call_says_length() -> None:
    async with serving(saying(call(city="Paris"))) as service:
        response = await service.chat(tools=[tool()], tool_choice="required", max_tokens=60)
    [choice] = response.json()["choices"]
    assert choice["finish_reason"] == FinishReason.LENGTH
    assert choice["message"]["tool_calls"][0]["function"]["arguments"].startswith('{"ci')


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("stop", "reason"), [("ris", "stop"), ('"}', "stop"), ("</tool_call>", "tool_calls")])
async def test_only_a_call_with_all_its_arguments_says_tool_calls_where_a_stop_string_ends_the_answer(
    stop: str, reason: str, stream: bool
) -> None:
    async with serving(saying(call(city="Paris"))) as service:
        response = await service.chat(tools=[tool()], tool_choice="required", stop=stop, stream=stream)
    answers = [chunk for chunk in events_of(response) if chunk != "[DONE]"] if stream else [response.json()]
    assert answers[-1]["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": schema_format(CITY)}, "response_format.json_schema.schema"),
        ({"tools": [tool(), tool("b")]}, "tools"),
    ],
)
async def test_a_grammar_that_becomes_too_complex_in_the_middle_is_the_clients_400_and_an_event_of_a_stream(
    fields: dict[str, Any], param: str
) -> None:
    handle = FakeHandle(fails_after=2, ends_with=FinishReason.GRAMMAR, max_model_len=ROOMY)
    async with serving(handle) as service:
        whole = await service.chat(**fields)
        streamed = await service.chat(stream=True, **fields)
        handle.fails_after = 0
        before_the_first_token = await service.chat(stream=True, **fields)
    assert [whole.status_code, streamed.status_code, before_the_first_token.status_code] == [400, 200, 400]
    for error in (whole.json(), events_of(streamed)[-1], before_the_first_token.json()):
        told = error["error"]
        assert (told["type"], told["code"]) == ("invalid_request_error", "grammar_too_complex")
        assert told["param"] == param
        assert "it broke" in told["message"]


async def test_choices_are_read_apart() -> None:
    handle = FakeHandle(says=lambda made: call(city="Paris") if len(made.ticket.lease_id) else "", max_model_len=ROOMY)
    async with serving(handle) as service:
        response = await service.chat(tools=[tool()], stream=True, n=2)
    *chunks, _ = events_of(response)
    heads = [
        (chunk["choices"][0]["index"], piece["index"])
        for chunk in chunks
        for piece in chunk["choices"][0]["delta"].get("tool_calls", [])
        if "id" in piece
    ]
    assert sorted(heads) == [(0, 0), (1, 0)]


async def test_a_call_and_its_result_go_into_the_next_prompt() -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**CALLED, "index": 0}],
            "refusal": None,
            "annotations": [],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}], "name": "weather"},
    ]
    async with serving(saying("It is sunny.")) as service:
        response = await service.chat(messages=turns, tools=[tool()])
    assert response.status_code == 200
    assert call(city="Paris") in prompt_of(service)
    assert "<tool_response>\nsunny\n</tool_response>" in prompt_of(service)


async def test_a_grammar_that_could_not_be_tried_is_a_503_and_reaches_no_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(judge: InProcessJudge, grammar: str) -> None:
        raise TrialBroken("the process has ended")

    monkeypatch.setattr(InProcessJudge, "check", broken)
    async with serving() as service:
        response = await service.chat(response_format={"type": "json_object"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "grammar_unavailable")
    assert response.headers["retry-after"] == "1"
    assert service.handle.calls == []


async def test_a_call_whose_replica_is_lost_goes_on_elsewhere_under_its_grammar() -> None:
    handle = FakeHandle(says=lambda _: call(city="Paris"), max_model_len=ROOMY, fails_after=45, num_failing_calls=1)
    async with serving(handle) as service:
        response = await service.chat(tools=[tool()], tool_choice="required", stream=True)
    *chunks, done = events_of(response)
    pieces = [piece for chunk in chunks for piece in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"city": "Paris"}'
    assert done == "[DONE]"
    first, second = handle.calls
    assert second.request.sampling.grammar == first.request.sampling.grammar
    assert len(second.request.output_token_ids) == 45
