"""The routes beside the answers: models, health, readiness and the queue."""

from __future__ import annotations

from dataclasses import replace

from deployments.user_config import parse_user_config
from scheduling.replicas import WaitReason
from scheduling.snapshot import ReplicaView, WaitingView
from tests.deployments.fake_model import FakeHandle
from tests.deployments.fake_service import empty_queue, serving


async def test_models_are_listed_and_shown_one_by_one() -> None:
    async with serving(FakeHandle(name="a"), FakeHandle(name="b.1")) as service:
        listed = (await service.client.get("/v1/models")).json()
        shown = (await service.client.get("/v1/models/b.1")).json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["a", "b.1"]
    assert shown["object"] == "model"
    assert shown["id"] == "b.1"
    assert shown["max_model_len"] == 200


async def test_a_request_goes_to_the_model_that_it_names() -> None:
    one, other = FakeHandle(name="a"), FakeHandle(name="b")
    async with serving(one, other) as service:
        assert (await service.chat(model="b")).json()["model"] == "b"
    assert (len(one.calls), len(other.calls)) == (0, 1)


async def test_health_is_the_processs_own_and_readiness_the_clusters() -> None:
    async with serving() as service:
        ready = await service.client.get("/readyz")
        service.cluster.not_ready = "the queue of fake is not up"
        healthy = await service.client.get("/healthz")
        not_ready = await service.client.get("/readyz")
    assert ready.status_code == 200
    assert healthy.status_code == 200
    assert not_ready.status_code == 503
    assert not_ready.json()["error"]["message"] == "the queue of fake is not up"
    assert not_ready.headers["retry-after"] == "2"


async def test_the_queue_shows_who_waits_in_order_and_why() -> None:
    waiting = WaitingView("req-1", "lease-1", "urgent", "default", 6.0, 1.5, 2.5, 12, WaitReason.READY)
    replica = ReplicaView("replica-1", ("lease-0",), 32, 100, 4096, quarantined=False)
    async with serving() as service:
        service.cluster.queues["fake"] = replace(empty_queue(), waiting=(waiting,), replicas=(replica,))
        response = await service.client.get("/v1/queue")
    [queue] = response.json()["data"]
    assert (queue["model"], queue["num_waiting"], queue["num_running"]) == ("fake", 1, 1)
    assert queue["policy"] == {"name": "aged", "alpha": 1.0, "beta": 0.1, "epoch": 0}
    assert queue["tokens_per_s"] is None
    assert queue["waiting"][0]["request_id"] == "req-1"
    assert queue["waiting"][0]["position"] == 0
    assert queue["waiting"][0]["why"] == str(WaitReason.READY.value)


async def test_a_cluster_that_cannot_be_asked_is_a_500_in_the_shape_of_every_other_error() -> None:
    async def broken() -> str:
        raise RuntimeError("secret detail")

    async with serving() as service:
        service.cluster.metrics_text = broken  # type: ignore[method-assign]
        response = await service.client.get("/metrics")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text


async def test_with_keys_every_route_but_health_is_closed_and_so_is_what_is_no_route() -> None:
    settings = parse_user_config({"tenants": {"key": {"name": "a"}}})
    async with serving(settings=settings) as service:
        service.api.add_api_route("/v1/new", lambda: "said too much")
        routes = [(method, route.path) for route in service.api.routes for method in route.methods]  # type: ignore[attr-defined]
        strangers = [("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/no/such/route"), ("PUT", "/v1/models")]
        strangers += [
            ("GET", "/v1/chat/completions"),
            ("POST", "/v1/models"),
            ("GET", "/healthz/"),
            ("GET", "//healthz"),
        ]
        answers = {
            (method, path): await service.client.request(method, path.replace("{model}", "fake"))
            for method, path in [*routes, *strangers]
        }
        with_key = await service.client.get("/v1/new", headers={"authorization": "Bearer key"})
        missing = await service.client.get("/nowhere", headers={"authorization": "Bearer key"})
    is_open = {path for (_, path), answer in answers.items() if answer.status_code != 401}
    assert is_open == {"/healthz", "/readyz"}
    assert {"/v1/new", "/metrics", "/v1/queue", "/generate"} <= {path for _, path in answers}
    refused = answers["GET", "/no/such/route"]
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert refused.headers["x-request-id"].startswith("req-")
    assert (with_key.status_code, missing.status_code) == (200, 404)


async def test_no_page_loads_scripts_from_elsewhere() -> None:
    async with serving() as service:
        pages = [await service.client.get(path) for path in ("/docs", "/redoc")]
    assert {page.status_code for page in pages} == {404}


async def test_every_response_carries_a_request_id() -> None:
    async with serving() as service:
        for path in ("/healthz", "/v1/models", "/nowhere"):
            assert (await service.client.get(path)).headers["x-request-id"].startswith("req-")
