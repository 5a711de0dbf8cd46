"""Replicas come and go with the load, by `serve_config.yaml` alone. Two fake models in one application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import psutil
import pytest

from tests.service.running import Service, running_service, serve_config
from tests.service.waiting import until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

FAKE = {
    "source": "embedded:SmolLM2-135M-Instruct",
    "backend": "fake",
    "max_num_seqs": 2,
    "fake_step_s": 0.02,
    "rank_num_cpus": 0.1,
}
QUICK = {
    "metrics_interval_s": 0.5,
    "look_back_period_s": 1.0,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 2.0,
    "target_ongoing_requests": 2,
}
SCALES_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def scaling_service() -> Iterator[Service]:
    config = serve_config({"name": "one-or-two", **FAKE}, autoscaling={"min_replicas": 1, "max_replicas": 2, **QUICK})
    application = config["applications"][0]
    application["args"]["models"].append({"name": "none-or-one", **FAKE})
    zero = {"min_replicas": 0, "max_replicas": 1, "initial_replicas": 0, **QUICK}
    application["deployments"].append({"name": "none-or-one", "autoscaling_config": zero})
    with running_service(config) as service:
        yield service


@asynccontextmanager
async def load(service: Service, model: str, num_clients: int) -> AsyncIterator[None]:
    """So many endless streams; they end with the block."""
    body = {"model": model, "prompt": "Hi", "max_tokens": 8000, "ignore_eos": True, "stream": True}

    async def read_on(http: httpx.AsyncClient) -> None:
        async with http.stream("POST", "/v1/completions", json=body) as response:
            assert response.status_code == 200
            async for _ in response.aiter_bytes():
                continue

    async with httpx.AsyncClient(base_url=service.base_url, timeout=300) as http:
        clients = [asyncio.create_task(read_on(http)) for _ in range(num_clients)]
        try:
            yield
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)


async def until_replicas(service: Service, model: str, wanted: int) -> None:
    await until(
        lambda: asyncio.to_thread(service.replica_ids),
        lambda replica_ids: len(replica_ids[model]) == wanted,
        within_s=SCALES_WITHIN_S,
    )


async def test_load_takes_a_model_from_one_replica_to_two_and_back(scaling_service: Service) -> None:
    await until_replicas(scaling_service, "one-or-two", 1)

    async with load(scaling_service, "one-or-two", 8):
        await until_replicas(scaling_service, "one-or-two", 2)

    await until_replicas(scaling_service, "one-or-two", 1)


async def test_a_request_wakes_a_model_that_has_no_replica_and_is_answered(scaling_service: Service) -> None:
    await until_replicas(scaling_service, "none-or-one", 0)
    body = {"model": "none-or-one", "prompt": "Hi", "max_tokens": 2}

    async with httpx.AsyncClient(base_url=scaling_service.base_url, timeout=SCALES_WITHIN_S) as http:
        assert (await http.get("/readyz")).status_code == 200
        answer = await http.post("/v1/completions", json=body)

    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 2
    await until_replicas(scaling_service, "none-or-one", 0)


async def test_the_dashboard_shows_the_application_its_deployments_and_their_replicas(
    scaling_service: Service,
) -> None:
    await until_replicas(scaling_service, "one-or-two", 1)
    await until_replicas(scaling_service, "none-or-one", 0)

    [application] = scaling_service.serve_actors()
    assert application["status"] == "RUNNING"
    replicas = scaling_service.running_replicas()
    assert {name: len(shown) for name, shown in replicas.items()} == {"Ingress": 1, "one-or-two": 1, "none-or-one": 0}
    assert all(psutil.pid_exists(replica["pid"]) for shown in replicas.values() for replica in shown)


async def test_models_are_listed_and_routed_by_name(scaling_service: Service) -> None:
    async with httpx.AsyncClient(base_url=scaling_service.base_url, timeout=SCALES_WITHIN_S) as http:
        listed = [model["id"] for model in (await http.get("/v1/models")).json()["data"]]
        assert listed == ["one-or-two", "none-or-one"]
        for name in listed:
            body = {"model": name, "prompt": "Hi", "max_tokens": 500, "ignore_eos": True, "stream": True}
            async with http.stream("POST", "/v1/completions", json=body) as response:
                replica_ids = await asyncio.to_thread(scaling_service.replica_ids)

            assert response.headers["x-fastserve-replica"] in replica_ids[name]
