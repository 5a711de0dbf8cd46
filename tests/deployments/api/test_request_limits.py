"""What one request may ask for where more would slow or starve the others: refused with the number and the limit."""

from __future__ import annotations

from typing import Any

import httpx

from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import serving


def _refusal(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


async def test_more_biases_than_a_step_can_bear_are_refused_with_their_number_and_the_limit() -> None:
    async with serving() as service:
        refused = _refusal(await service.chat(logit_bias={str(token): 1 for token in range(1025)}))
        at_the_limit = _refusal(await service.chat(logit_bias={str(token): 1 for token in range(1024)}))

    assert refused["param"] == "logit_bias"
    assert refused["message"] == "logit_bias: got 1025 entries; expected at most 1024."
    assert "token id 1023" in at_the_limit["message"]  # the fake vocabulary is smaller than the limit


async def test_a_token_that_the_tokenizer_has_and_the_model_lacks_is_refused() -> None:
    async with serving(FakeHandle(num_embeddings=100)) as service:
        in_ids = _refusal(await service.complete(prompt=[100]))
        in_text = _refusal(await service.complete(prompt="zzz"))
        in_bias = _refusal(await service.complete(prompt=[65], logit_bias={"100": 1}))
        answered = await service.complete(prompt=[65])

    assert (in_ids["param"], in_text["param"], in_bias["param"]) == ("prompt", "prompt", "logit_bias")
    assert "token id 100; expected less than 100" in in_ids["message"]
    assert answered.status_code == 200
    assert service.handle.calls[0].request.sampling.stop_token_ids == ()  # its end token is one that the model lacks


async def test_more_log_probabilities_of_echoed_prompts_than_fit_in_memory_are_refused() -> None:
    async with serving(FakeHandle(max_model_len=10_000)) as service:
        prompts = ["x" * 2_048] * 64
        refused = _refusal(await service.complete(prompt=prompts, echo=True, logprobs=2, max_tokens=0))
        both = _refusal(await service.complete(prompt=prompts, n=2, echo=True, logprobs=1, max_tokens=0))
        unechoed = await service.complete(prompt=prompts[:1], logprobs=20, max_tokens=1)
        allowed = await service.complete(prompt="x" * 9_000, echo=True, logprobs=20, max_tokens=0)

    assert refused["param"] == "logprobs"
    assert "got 393216 to echo" in refused["message"]
    assert "at most 262144" in refused["message"]
    assert "got 524288 to echo" in both["message"]
    assert (unechoed.status_code, allowed.status_code) == (200, 200)
