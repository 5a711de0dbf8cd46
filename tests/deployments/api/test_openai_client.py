"""The `openai` package, unmodified, against the HTTP face."""

from __future__ import annotations

import httpx
import openai
import pytest

from scheduling.errors import QueueFull
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import Service, serving


def _client(service: Service) -> openai.AsyncOpenAI:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=service.api, raise_app_exceptions=False))
    return openai.AsyncOpenAI(base_url="http://service/v1", api_key="any", http_client=http, max_retries=0)


async def test_a_chat_completion_with_choices_and_log_probabilities() -> None:
    async with serving() as service, _client(service) as client:
        answer = await client.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": "Hi"}],
            n=2,
            seed=3,
            stop=["!"],
            logprobs=True,
            top_logprobs=1,
            service_tier="flex",
            extra_body={"priority": 3, "top_k": 5},
        )
    assert [choice.message.content for choice in answer.choices] == ["Hello", "Hello"]
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert answer.choices[0].logprobs.content[0].token == "H"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2
    assert service.handle.calls[0].ticket.priority == 3


async def test_a_streamed_chat_completion_with_usage() -> None:
    async with serving() as service, _client(service) as client:
        stream = await client.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello!"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7


async def test_a_conversation_goes_on_with_the_clients_own_message_object() -> None:
    async with serving() as service, _client(service) as client:
        first = await client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "Hi"}])
        message = first.choices[0].message
        turns = [{"role": "user", "content": "Hi"}, message, {"role": "user", "content": "Go on"}]
        second = await client.chat.completions.create(model="fake", messages=turns)  # type: ignore[arg-type]
    assert second.choices[0].message.content == "Hello!"


async def test_completions_whole_and_streamed() -> None:
    async with serving() as service, _client(service) as client:
        whole = await client.completions.create(model="fake", prompt=["a", "b"], echo=True, logprobs=1)
        stream = await client.completions.create(model="fake", prompt=[72, 105], stream=True)
        text = "".join([chunk.choices[0].text async for chunk in stream])
    assert [choice.text for choice in whole.choices] == ["aHello!", "bHello!"]
    assert whole.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.text_offset == [0, 1, 2, 3, 4, 5, 6, 7]
    assert text == "Hello!"


async def test_models_are_listed_and_retrieved() -> None:
    async with serving() as service, _client(service) as client:
        assert [model.id async for model in client.models.list()] == ["fake"]
        assert (await client.models.retrieve("fake")).owned_by == "fastserve"


async def test_errors_arrive_as_the_clients_own_exceptions() -> None:
    async with serving(FakeHandle(error=QueueFull(5, 5, 3.0))) as service, _client(service) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.completions.create(model="gpt-9", prompt="a")
        with pytest.raises(openai.BadRequestError) as bad:
            await client.completions.create(model="fake", prompt="a", temperature=3)
        with pytest.raises(openai.RateLimitError) as full:
            await client.completions.create(model="fake", prompt="a")
    assert unknown.value.code == "model_not_found"
    assert bad.value.param == "temperature"
    assert full.value.response.headers["retry-after"] == "3"


async def test_a_stream_that_breaks_raises_in_the_client() -> None:
    async with serving(FakeHandle(fails_after=2, enters=False)) as service, _client(service) as client:
        stream = await client.completions.create(model="fake", prompt="a", stream=True)
        with pytest.raises(openai.APIError, match="its stream ended before the answer did"):
            _ = [chunk async for chunk in stream]
