"""Completions: texts, token ids and lists of both, echo, and the older form of log probabilities."""

from __future__ import annotations

from deployments.generate_call import GenerateCall
from engine.protocol import FinishReason
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import events_of, serving


def _repeats(call: GenerateCall) -> str:
    return bytes(call.request.prompt_token_ids).decode().upper()


async def test_a_text_prompt_is_continued_for_sixteen_tokens_unless_told_otherwise() -> None:
    async with serving(FakeHandle(says=lambda _: "x" * 50)) as service:
        answer = (await service.complete()).json()
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == "x" * 16
    assert answer["choices"][0]["finish_reason"] == FinishReason.LENGTH


async def test_the_default_gives_way_to_a_full_context_but_a_number_that_was_asked_for_does_not() -> None:
    async with serving(FakeHandle(max_model_len=10)) as service:
        assert (await service.complete()).status_code == 200
        refused = await service.complete(max_tokens=9)
    assert service.handle.calls[0].request.sampling.max_tokens == 8
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "max_tokens"
    assert "at most 8" in refused.json()["error"]["message"]


async def test_every_prompt_gets_n_choices_in_order() -> None:
    async with serving(FakeHandle(says=_repeats)) as service:
        answer = (await service.complete(prompt=["ab", "cd"], n=2)).json()
    assert [choice["text"] for choice in answer["choices"]] == ["AB", "AB", "CD", "CD"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 4


async def test_the_same_prompt_with_the_same_seed_is_sampled_alike_wherever_it_stands() -> None:
    async with serving() as service:
        await service.complete(prompt=["ab", "ab"], seed=1)
    first, second = (call.request.sampling.seed for call in service.handle.calls)
    assert first == second


async def test_without_a_seed_no_two_choices_share_one() -> None:
    async with serving() as service:
        await service.complete(prompt=["ab", "ab"], n=2)
    seeds = {call.request.sampling.seed for call in service.handle.calls}
    assert len(seeds) == 4


async def test_token_ids_are_taken_as_they_are() -> None:
    async with serving(FakeHandle(says=_repeats)) as service:
        one = (await service.complete(prompt=[97, 98])).json()
        many = (await service.complete(prompt=[[97], [98, 99]])).json()
    assert one["choices"][0]["text"] == "AB"
    assert [choice["text"] for choice in many["choices"]] == ["A", "BC"]


async def test_echo_puts_the_prompt_before_the_answer_whole_and_streamed() -> None:
    async with serving() as service:
        whole = (await service.complete(prompt="Say é: ", echo=True)).json()
        *chunks, _ = events_of(await service.complete(prompt="Say é: ", echo=True, stream=True))
    assert whole["choices"][0]["text"] == "Say é: Hello!"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Say é: Hello!"


async def test_echo_with_no_tokens_gives_the_prompt_and_its_log_probabilities_alone() -> None:
    async with serving() as service:
        answer = (await service.complete(prompt="Hié", echo=True, max_tokens=0, logprobs=1)).json()
    [choice] = answer["choices"]
    assert choice["text"] == "Hié"
    assert choice["logprobs"]["tokens"] == ["H", "i", "bytes:\\xc3", "bytes:\\xa9"]
    assert choice["logprobs"]["token_logprobs"] == [None, -2.0, -2.0, -2.0]
    assert choice["logprobs"]["top_logprobs"][:2] == [None, {"i": -2.0}]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 2]
    assert answer["usage"]["completion_tokens"] == 0


async def test_log_probabilities_say_where_each_token_begins() -> None:
    async with serving(FakeHandle(says=lambda _: "aéb")) as service:
        answer = (await service.complete(logprobs=2, echo=True, prompt="Hi")).json()
        plain = (await service.complete(logprobs=2)).json()
    assert plain["choices"][0]["logprobs"]["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", "b", "<eos>"]
    assert plain["choices"][0]["logprobs"]["text_offset"] == [0, 1, 1, 2, 3]
    assert plain["choices"][0]["logprobs"]["top_logprobs"][0] == {"a": -0.5, "?": -3.0}
    assert answer["choices"][0]["logprobs"]["text_offset"] == [0, 1, 2, 3, 3, 4, 5]


async def test_the_simple_form_answers_in_either_spelling() -> None:
    async with serving() as service:
        flat = await service.post("/generate", {"prompt": "Hi", "max_length": 5, "temperature": 0})
        nested = await service.post("/generate", {"prompt": "Hi", "params": {"max_length": 5, "priority": 7}})
    assert flat.json()["generated_text"] == "Hel"
    assert flat.json()["model_name"] == "fake"
    assert flat.json()["generation_time"] >= 0
    assert nested.json()["generated_text"] == "Hel"
    assert service.handle.calls[0].request.sampling.temperature == 0
    assert service.handle.calls[1].ticket.priority == 7


async def test_the_simple_form_has_its_own_defaults_and_names_a_length_that_is_too_short() -> None:
    async with serving(FakeHandle(max_model_len=1000)) as service:
        await service.post("/generate", {"prompt": "Hi"})
        short = await service.post("/generate", {"prompt": "Hi", "max_length": 2})
        long = await service.post("/generate", {"prompt": "Hi", "max_length": 1001})
        twice = await service.post("/generate", {"prompt": "Hi", "max_length": 9, "params": {}})
    sampling = service.handle.calls[0].request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (510, 0.7, 0.95)
    for response in (short, long, twice):
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "max_length"


async def test_the_simple_form_takes_the_first_model_unless_it_names_one() -> None:
    async with serving(FakeHandle(name="a"), FakeHandle(name="b")) as service:
        first = await service.post("/generate", {"prompt": "Hi"})
        named = await service.post("/generate", {"prompt": "Hi", "model": "b"})
    assert first.json()["model_name"] == "a"
    assert named.json()["model_name"] == "b"
