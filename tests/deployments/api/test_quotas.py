"""Quotas as clients meet them: the API in front of a model whose every call asks a real dispatcher first."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest

from deployments.generate_call import GenerateCall, GenerationEvent
from deployments.user_config import IngressUserConfig, parse_user_config
from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher
from scheduling.score import ScorePolicy
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import Service, chat_body, serving
from tests.factories import make_dispatcher, make_replica


class QueuedHandle(FakeHandle):
    """Asks the dispatcher as the router would, and tells it what the engine served."""

    dispatcher: Dispatcher
    now_s = 0.0

    async def generate(self, call: GenerateCall) -> AsyncGenerator[GenerationEvent, None]:
        self.dispatcher.enqueue(call.ticket, "ingress", self.now_s)
        self.dispatcher.dispatch(self.now_s)
        num_served = call.ticket.num_prompt_tokens
        try:
            async for event in super().generate(call):
                num_served += len(getattr(event, "token_ids", ()))
                yield event
        finally:
            self.dispatcher.release(call.ticket.lease_id, num_served)


def queued_handle(settings: IngressUserConfig) -> QueuedHandle:
    handle = QueuedHandle()
    handle.dispatcher = make_dispatcher(make_replica(max_num_seqs=64))
    configure(handle.dispatcher, settings)
    return handle


def configure(dispatcher: Dispatcher, settings: IngressUserConfig) -> None:
    dispatcher.reconfigure(ScorePolicy(), AdmissionBounds(), None, settings.quotas())


def with_limits(**limits: int) -> IngressUserConfig:
    return parse_user_config({"tenants": {"limited": {"name": "a", **limits}, "free": {"name": "a"}}})


async def ask(service: Service, key: str = "limited", **fields: object) -> httpx.Response:
    return await service.post("/v1/chat/completions", chat_body(**fields), authorization=f"Bearer {key}")


async def test_a_request_beyond_the_quota_is_a_429_that_says_when_there_is_room() -> None:
    settings = with_limits(max_requests_per_min=2)
    handle = queued_handle(settings)
    async with serving(handle, settings=settings) as service:
        assert [(await ask(service)).status_code for _ in range(2)] == [200, 200]
        handle.now_s = 20.0
        refused = await ask(service)
        others = await ask(service, "free")
        handle.now_s += float(refused.headers["retry-after"])
        later = await ask(service)
    assert refused.status_code == 429
    assert refused.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert "2 requests" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "41"
    assert (others.status_code, later.status_code) == (200, 200)


async def test_a_quota_is_of_the_key_and_not_of_the_tenant() -> None:
    limits = {"name": "a", "max_requests_per_min": 1}
    settings = parse_user_config({"tenants": {"one": limits, "other": limits}})
    async with serving(queued_handle(settings), settings=settings) as service:
        answers = [await ask(service, key) for key in ("one", "other", "one")]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_tokens_are_charged_as_asked_for_and_settled_as_served() -> None:
    settings = with_limits(max_tokens_per_min=100)
    async with serving(queued_handle(settings), settings=settings) as service:
        answers = [await ask(service, max_tokens=90) for _ in range(3)]  # 2 + 90, and 2 + 7 in the end
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    async with serving(queued_handle(settings), settings=settings) as service:
        answers = [await ask(service, max_tokens=80) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


async def test_a_request_that_alone_is_larger_than_the_quota_is_a_400_that_says_so() -> None:
    settings = with_limits(max_tokens_per_min=100)
    async with serving(queued_handle(settings), settings=settings) as service:
        refused = await ask(service, max_tokens=50, n=2)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "request_exceeds_quota"
    assert "104 tokens" in refused.json()["error"]["message"]
    assert "retry-after" not in refused.headers


async def test_choices_and_prompts_are_one_request_with_the_tokens_of_all() -> None:
    settings = with_limits(max_requests_per_min=1, max_tokens_per_min=1000)
    handle = queued_handle(settings)
    async with serving(handle, settings=settings) as service:
        body = {"model": "fake", "prompt": ["Hi", "Hey"], "n": 2, "max_tokens": 10}
        first = await service.post("/v1/completions", body, authorization="Bearer limited")
        second = await service.post("/v1/completions", body, authorization="Bearer limited")
    assert (first.status_code, len(first.json()["choices"]), second.status_code) == (200, 4, 429)
    claims = [call.ticket.claim for call in handle.calls[:4]]
    assert {(claim.charge_id, claim.num_tokens) for claim in claims if claim} == {
        (handle.calls[0].ticket.lease_id, 2 * 2 + 2 * 3 + 4 * 10)
    }
    assert [claim.choice for claim in claims if claim] == [0, 1, 2, 3]


async def test_limits_change_while_the_service_runs() -> None:
    settings = with_limits(max_requests_per_min=1)
    handle = queued_handle(settings)
    async with serving(handle, settings=settings) as service:
        before = [(await ask(service)).status_code for _ in range(2)]
        service.settings = with_limits(max_requests_per_min=2)
        configure(handle.dispatcher, service.settings)
        after = [(await ask(service)).status_code for _ in range(2)]
    assert (before, after) == ([200, 429], [200, 429])


@pytest.mark.parametrize("limits", [{}, {"max_requests_per_min": 5}])
async def test_the_queue_never_sees_a_key_and_an_account_only_where_there_are_limits(limits: dict[str, int]) -> None:
    settings = parse_user_config({"tenants": {"the-secret-key": {"name": "a", **limits}}})
    async with serving(settings=settings) as service:
        await ask(service, "the-secret-key")
    ticket = service.handle.calls[0].ticket
    assert (ticket.claim is not None) == bool(limits)
    assert "the-secret-key" not in repr(ticket)
    if ticket.claim is not None:
        assert set(settings.quotas()) == {ticket.claim.account}
        assert len(ticket.claim.account) == 16
