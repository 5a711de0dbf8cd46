"""What the unmodified `openai` client must get, whatever the tensor parallelism behind it."""

from __future__ import annotations

import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.service.conftest import MODEL

CAPITAL: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]


def client_of(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base_url}/v1", api_key="unused", max_retries=0, timeout=60)


def check_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0)
    choice = answer.choices[0]
    assert "Paris" in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def check_streaming_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=CAPITAL, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0)
    assert text == whole.choices[0].message.content
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 3
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def check_n_and_seed(client: openai.OpenAI) -> None:
    def ask(seed: int) -> list[str | None]:
        answer = client.chat.completions.create(model=MODEL, messages=CAPITAL, n=3, seed=seed, max_tokens=12)
        return [choice.message.content for choice in sorted(answer.choices, key=lambda choice: choice.index)]

    first = ask(seed=1)
    assert len(set(first)) > 1
    assert ask(seed=1) == first
    assert ask(seed=2) != first


def check_stop(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=CAPITAL, temperature=0, stop=[" Paris"])
    assert answer.choices[0].message.content == "The capital of France is"
    assert answer.choices[0].finish_reason == "stop"


def check_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=CAPITAL, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0
        assert token.top_logprobs[0].logprob == max(top.logprob for top in token.top_logprobs)
        assert token.top_logprobs[0].token == token.token  # greedy takes the best


def check_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["Paris is the capital of", [504]], max_tokens=5, temperature=0, echo=True
    )
    assert len(answer.choices) == 2
    assert answer.choices[0].text.startswith("Paris is the capital of")
    assert len(answer.choices[0].text) > len("Paris is the capital of")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 10


def check_completions_streaming(client: openai.OpenAI) -> None:
    prompt = "The capital of France is"
    stream = client.completions.create(
        model=MODEL, prompt=prompt, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    whole = client.completions.create(model=MODEL, prompt=prompt, max_tokens=12, temperature=0)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert len([chunk for chunk in chunks if chunk.choices[0].text]) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert last.choices == []
    assert last.usage == whole.usage


ALL_CHECKS = [
    check_chat,
    check_streaming_with_usage,
    check_n_and_seed,
    check_stop,
    check_logprobs,
    check_completions,
    check_completions_streaming,
]
