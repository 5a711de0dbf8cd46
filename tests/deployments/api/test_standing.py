"""Who asks, and how important the request is: tenants by key, priorities, tiers, classes and deadlines."""

from __future__ import annotations

import hashlib

import pytest

from deployments.api.auth import tenant_of
from deployments.errors import ApiError
from deployments.user_config import IngressUserConfig, parse_user_config
from tests.deployments.fake_service import chat_body, serving

CHAT = "/v1/chat/completions"


def _two_tenants() -> IngressUserConfig:
    digest = hashlib.sha256(b"key-b").hexdigest()
    return parse_user_config(
        {"tenants": {"key-a": {"name": "a", "max_priority": 0}, f"sha256:{digest}": {"name": "b", "weight": 2.0}}}
    )


async def test_with_no_tenants_everyone_is_default_whatever_key_they_bear() -> None:
    async with serving() as service:
        response = await service.post(CHAT, chat_body(), authorization="Bearer anything")
    assert response.status_code == 200
    assert service.handle.calls[0].ticket.tenant == "default"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic key-a", "Bearer key-c", "key-a"])
def test_with_tenants_a_key_that_nobody_holds_is_a_401(authorization: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        tenant_of(authorization, _two_tenants())
    assert refused.value.status == 401


def test_a_key_may_stand_in_the_file_as_its_digest() -> None:
    tenant = tenant_of("Bearer key-b", _two_tenants())
    assert tenant.name == "b"


@pytest.mark.parametrize("key", ["clé", "ключ", "voilà"])  # the last one's last byte is a blank in Latin-1
async def test_a_key_with_letters_of_any_language_is_known_by_its_utf_8(key: str) -> None:
    settings = parse_user_config({"tenants": {key: {"name": "a"}}})
    async with serving(settings=settings) as service:
        sent = [f"Bearer {key}".encode(), "Bearer \xff".encode("latin-1")]
        answers = [await service.client.get("/v1/models", headers={b"authorization": each}) for each in sent]
    assert [answer.status_code for answer in answers] == [200, 401]


def test_a_digest_is_not_itself_a_key() -> None:
    digest = hashlib.sha256(b"key-b").hexdigest()
    with pytest.raises(ApiError):
        tenant_of(f"Bearer sha256:{digest}", _two_tenants())


async def test_the_key_names_the_tenant_and_guards_every_route_that_tells_something() -> None:
    async with serving(settings=_two_tenants()) as service:
        named = await service.post(CHAT, chat_body(), authorization="Bearer key-a")
        anonymous = [
            await service.chat(),
            await service.client.get("/v1/models"),
            await service.client.get("/v1/models/fake"),
            await service.client.get("/v1/queue"),
            await service.client.get("/metrics"),
            await service.complete(),
            await service.post("/generate", {"prompt": "Hi"}),
        ]
        open_to_all = [await service.client.get("/healthz"), await service.client.get("/readyz")]
    assert named.status_code == 200
    assert service.handle.calls[0].ticket.tenant == "a"
    assert {response.status_code for response in anonymous} == {401}
    assert anonymous[0].json()["error"]["code"] == "invalid_api_key"
    assert {response.status_code for response in open_to_all} == {200}


async def test_more_priority_than_the_tenant_has_is_a_403_by_number_and_by_tier() -> None:
    async with serving(settings=_two_tenants()) as service:
        by_number = await service.post(CHAT, chat_body(priority=1), authorization="Bearer key-a")
        by_tier = await service.post(CHAT, chat_body(service_tier="priority"), authorization="Bearer key-a")
        allowed = await service.post(CHAT, chat_body(priority=1), authorization="Bearer key-b")
    assert (by_number.status_code, by_number.json()["error"]["param"]) == (403, "priority")
    assert (by_tier.status_code, by_tier.json()["error"]["param"]) == (403, "service_tier")
    assert allowed.status_code == 200


@pytest.mark.parametrize(
    ("max_priority", "fields", "status"),
    [
        (-5, {}, 403),
        (-5, {"priority": -4.9}, 403),
        (-5, {"priority": -5}, 200),
        (-5, {"priority": -100}, 200),
        (-5, {"service_tier": "default"}, 403),
        (-5, {"service_tier": "flex"}, 200),
        (-5, {"service_tier": "priority", "priority": -5}, 200),
        (-5, {"service_tier": "flex", "priority": 0}, 403),
        (0, {"priority": 0.001}, 403),
        (0, {"service_tier": "auto"}, 200),
        (10, {"service_tier": "priority"}, 200),
        (9.9, {"service_tier": "priority"}, 403),
    ],
)
async def test_a_priority_above_the_grant_is_refused_and_never_lowered(
    max_priority: float, fields: dict[str, object], status: int
) -> None:
    settings = parse_user_config({"tenants": {"key": {"name": "a", "max_priority": max_priority}}})
    async with serving(settings=settings) as service:
        answers = [
            await service.post(CHAT, chat_body(**fields), authorization="Bearer key"),
            await service.post(
                "/v1/completions", {"model": "fake", "prompt": "Hi", **fields}, authorization="Bearer key"
            ),
        ]
        if "service_tier" not in fields:
            answers.append(await service.post("/generate", {"prompt": "Hi", **fields}, authorization="Bearer key"))
    assert {answer.status_code for answer in answers} == {status}
    assert bool(service.handle.calls) == (status == 200)


@pytest.mark.parametrize(
    ("fields", "priority", "service_class"),
    [
        ({}, 0.0, "standard"),
        ({"service_tier": "auto"}, 0.0, "standard"),
        ({"service_tier": "flex"}, -10.0, "flex"),
        ({"service_tier": "priority"}, 10.0, "urgent"),
        ({"service_tier": "flex", "priority": 4.5}, 4.5, "standard"),
        ({"priority": 5}, 5.0, "urgent"),
        ({"priority": -0.5}, -0.5, "flex"),
        ({"priority": -100}, -100.0, "flex"),
    ],
)
async def test_priority_wins_over_the_tier_and_gives_the_class(
    fields: dict[str, object], priority: float, service_class: str
) -> None:
    async with serving() as service:
        assert (await service.chat(**fields)).status_code == 200
    ticket = service.handle.calls[0].ticket
    assert (ticket.priority, ticket.service_class) == (priority, service_class)


async def test_settings_change_while_the_service_runs() -> None:
    async with serving() as service:
        await service.chat(service_tier="flex")
        service.settings = parse_user_config({"tiers": {"flex": -3}, "alpha": 2})
        await service.chat(service_tier="flex")
    assert [call.ticket.priority for call in service.handle.calls] == [-10.0, -3.0]
    assert service.handle.calls[1].request.policy.alpha == 2


async def test_a_deadline_reaches_the_queue_less_what_preprocessing_took() -> None:
    async with serving() as service:
        await service.chat(deadline_ms=60_000)
        await service.chat()
    deadline_s = service.handle.calls[0].ticket.deadline_s
    assert deadline_s is not None
    assert 0 < deadline_s < 60
    assert service.handle.calls[1].ticket.deadline_s is None


async def test_a_deadline_that_passes_before_the_queue_is_a_408() -> None:
    async with serving() as service:
        response = await service.chat(deadline_ms=1e-6)
    assert response.status_code == 408
    assert response.json()["error"]["code"] == "deadline_passed"
    assert service.handle.calls == []


def test_a_priority_below_every_class_falls_into_the_lowest() -> None:
    settings = parse_user_config({"classes": {"only": {"min_priority": 50, "ttft_s": 1, "tpot_s": 1}}})
    assert settings.class_of(-100) == "only"
