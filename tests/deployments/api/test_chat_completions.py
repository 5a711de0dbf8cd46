"""Chat completions, whole and streamed, as OpenAI documents them."""

from __future__ import annotations

from engine.protocol import FinishReason
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import chat_body, events_of, serving


async def test_a_whole_answer_has_text_finish_reason_and_usage() -> None:
    async with serving() as service:
        response = await service.chat()
    answer = response.json()
    assert response.status_code == 200
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "fake"
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello!", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 2
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["usage"]["total_tokens"] == 9


async def test_a_stream_is_role_text_finish_reason_usage_and_done() -> None:
    async with serving() as service:
        response = await service.chat(stream=True, stream_options={"include_usage": True})
    *chunks, usage, done = events_of(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Hello!"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "stop"]
    assert {chunk["id"] for chunk in chunks} == {usage["id"]}
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 7


async def test_a_stream_that_does_not_ask_for_usage_never_mentions_it() -> None:
    async with serving() as service:
        response = await service.chat(stream=True)
    assert "usage" not in response.text


async def test_the_answer_says_how_it_was_queued() -> None:
    async with serving() as service:
        whole = await service.chat()
        streamed = await service.chat(stream=True)
    for response in (whole, streamed):
        assert response.headers["x-fastserve-queue-ms"] == "250.0"
        assert float(response.headers["x-fastserve-key"]) == 7.5
        assert response.headers["x-fastserve-replica"] == "replica-1"


async def test_a_clients_request_id_comes_back_and_a_strange_one_does_not() -> None:
    async with serving() as service:
        kept = await service.post("/v1/chat/completions", chat_body(), x_request_id="mine-1")
        minted = await service.post("/v1/chat/completions", chat_body(), x_request_id="not a plain id")
    assert kept.headers["x-request-id"] == "mine-1"
    assert minted.headers["x-request-id"].startswith("req-")


async def test_n_choices_are_n_calls_with_seeds_of_their_own_and_one_prompt_in_usage() -> None:
    async with serving() as service:
        answer = (await service.chat(n=3, seed=7)).json()
        again = (await service.chat(n=1, seed=7)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["prompt_tokens"] == 2
    assert answer["usage"]["completion_tokens"] == 21
    seeds = [call.request.sampling.seed for call in service.handle.calls]
    assert len(set(seeds[:3])) == 3
    assert seeds[3] == seeds[0]
    assert again["choices"][0]["message"]["content"] == "Hello!"
    assert len({call.ticket.lease_id for call in service.handle.calls}) == 4


async def test_streamed_choices_carry_their_index_and_each_ends() -> None:
    async with serving() as service:
        *chunks, done = events_of(await service.chat(n=2, stream=True))
    assert done == "[DONE]"
    for index in (0, 1):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in own) == "Hello!"
        assert own[-1]["finish_reason"] == "stop"


async def test_a_missing_seed_is_minted_anew_each_time() -> None:
    async with serving() as service:
        await service.chat()
        await service.chat()
    first, second = (call.request.sampling.seed for call in service.handle.calls)
    assert first != second


async def test_a_stop_string_ends_the_text_before_it_and_closes_the_call() -> None:
    handle = FakeHandle(says=lambda _: "one two three")
    async with serving(handle) as service:
        answer = (await service.chat(stop=[" thr", "zzz"])).json()
        streamed = events_of(await service.chat(stop=" thr", stream=True))
    assert answer["choices"][0]["message"]["content"] == "one two"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == len("one two thr")
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in streamed[:-1]) == "one two"
    assert len(handle.closed) == 2


async def test_a_stop_string_within_the_first_min_tokens_ends_nothing() -> None:
    async with serving(FakeHandle(says=lambda _: "one two one two")) as service:
        late = (await service.chat(stop="two", min_tokens=7)).json()
        across = (await service.chat(stop="two", min_tokens=6, max_tokens=10)).json()
        never = (await service.chat(stop="two", min_tokens=15)).json()
        early = (await service.chat(stop="two", min_tokens=4)).json()
    assert late["choices"][0]["message"]["content"] == "one two one "
    assert across["choices"][0]["message"]["content"] == "one two on"
    assert never["choices"][0]["message"]["content"] == "one two one two"
    assert early["choices"][0]["message"]["content"] == "one "


async def test_max_tokens_ends_with_length_under_either_name() -> None:
    async with serving() as service:
        old = (await service.chat(max_tokens=3)).json()
        new = (await service.chat(max_completion_tokens=3)).json()
    for answer in (old, new):
        assert answer["choices"][0]["message"]["content"] == "Hel"
        assert answer["choices"][0]["finish_reason"] == FinishReason.LENGTH


async def test_half_a_character_is_never_sent() -> None:
    async with serving(FakeHandle(says=lambda _: "né😀")) as service:
        *chunks, _ = events_of(await service.chat(stream=True))
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert [text for text in texts if text] == ["n", "é", "😀"]


async def test_log_probabilities_come_with_bytes_and_alternatives_one_for_each_token() -> None:
    async with serving(FakeHandle(says=lambda _: "é")) as service:
        answer = (await service.chat(logprobs=True, top_logprobs=2)).json()
        *chunks, _ = events_of(await service.chat(logprobs=True, top_logprobs=2, stream=True))
    content = answer["choices"][0]["logprobs"]["content"]
    assert [entry["bytes"] for entry in content] == [[0xC3], [0xA9], list(b"<eos>")]
    assert content[0]["logprob"] == -0.5
    assert [top["logprob"] for top in content[0]["top_logprobs"]] == [-0.5, -3.0]
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [entry for one in streamed if one for entry in one["content"]] == content


async def test_log_probabilities_without_alternatives_name_the_chosen_token_only() -> None:
    async with serving() as service:
        answer = (await service.chat(logprobs=True)).json()
        silent = (await service.chat()).json()
    assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert silent["choices"][0]["logprobs"] is None


async def test_cached_prompt_tokens_are_told() -> None:
    async with serving(FakeHandle(num_cached_tokens=16)) as service:
        answer = (await service.chat(n=2)).json()
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 16}


async def test_without_max_tokens_the_rest_of_the_context_is_the_limit() -> None:
    async with serving(FakeHandle(max_model_len=50)) as service:
        await service.chat()
    assert service.handle.calls[0].request.sampling.max_tokens == 48
    assert service.handle.calls[0].ticket.max_output_tokens == 48


async def test_sampling_fields_reach_the_engine() -> None:
    fields: dict[str, object] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "presence_penalty": 1.5,
        "frequency_penalty": -1,
        "repetition_penalty": 1.2,
        "min_tokens": 2,
        "ignore_eos": True,
        "logit_bias": {"66": -100, "65": 1.5},
    }
    async with serving() as service:
        assert (await service.chat(**fields)).status_code == 200
    sampling = service.handle.calls[0].request.sampling
    kept = {name: getattr(sampling, name) for name in fields if name != "logit_bias"}
    assert kept == {name: value for name, value in fields.items() if name != "logit_bias"}
    assert sampling.logit_bias == ((65, 1.5), (66, -100.0))


async def test_the_tokenizers_ends_stop_an_answer_unless_it_ignores_them() -> None:
    async with serving(FakeHandle(says=lambda _: "Hi")) as service:
        await service.chat()
        ignoring = (await service.chat(ignore_eos=True)).json()
    stopping, going_on = (call.request.sampling.stop_token_ids for call in service.handle.calls)
    assert (stopping, going_on) == ((256,), ())
    assert ignoring["choices"][0]["message"]["content"] == "Hi"


async def test_text_parts_and_an_assistants_own_message_are_taken_back() -> None:
    async with serving() as service:
        message = (await service.chat()).json()["choices"][0]["message"]
        turns = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
            {**message, "tool_calls": None, "audio": None, "function_call": None, "annotations": None},
            {"role": "user", "content": "C"},
        ]
        response = await service.chat(messages=turns)
    assert response.status_code == 200
    assert bytes(service.handle.calls[1].request.prompt_token_ids) == b"Be brief.ABHello!C"


async def test_fields_that_ask_for_nothing_or_only_label_are_taken() -> None:
    fields: dict[str, object] = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "top_logprobs": None,
        "seed": None,
        "modalities": ["text"],
    }
    async with serving() as service:
        assert (await service.chat(**fields)).status_code == 200
