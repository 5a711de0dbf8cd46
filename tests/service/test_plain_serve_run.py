"""Ray's own `serve run`, without the launcher: the plain proxy, routers on a loop of their own, and the same order."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.order_checks import check_starts_in_key_order, hold_a_slot
from tests.service.running import Service, running_service, serve_config
from tests.service.waiting import queue_of, until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = "fake"


@pytest.fixture(scope="module")
def plain_service() -> Iterator[Service]:
    model = {
        "name": MODEL,
        "source": "embedded:SmolLM2-135M-Instruct",
        "backend": "fake",
        "max_num_seqs": 1,
        "fake_step_s": 0.01,
    }
    with running_service(serve_config(model, num_ingress=2), plain=True) as service:
        yield service


def test_it_answers(plain_service: Service) -> None:
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": 3}

    answer = httpx.post(f"{plain_service.base_url}/v1/completions", json=body, timeout=60)

    assert answer.json()["usage"]["completion_tokens"] == 3
    assert len(answer.headers.get_list("x-request-id")) == 1


async def test_thirty_requests_start_in_key_order(plain_service: Service) -> None:
    await check_starts_in_key_order(plain_service.base_url, MODEL, seed=7)


async def test_new_weights_and_bounds_apply_at_once_and_restart_nothing(plain_service: Service) -> None:
    """Last in this module: the service keeps the new settings."""
    replica_ids = plain_service.replica_ids()
    async with httpx.AsyncClient(base_url=plain_service.base_url, timeout=120) as http:
        holder = asyncio.create_task(hold_a_slot(http, MODEL))
        await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_running"] == 1)
        early = asyncio.create_task(_ask(http, "early", priority=0))
        await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_waiting"] == 1)
        late = asyncio.create_task(_ask(http, "late", priority=1))
        queue = await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_waiting"] == 2)
        assert _order(queue) == ["late", "early"]

        settings = {"alpha": 0.0, "beta": 1.0, "bounds": {"max_waiting": 2}}
        await asyncio.to_thread(plain_service.deploy, _with_user_config(plain_service.config, settings))
        queue = await until(lambda: queue_of(http, MODEL), lambda queue: queue["policy"]["alpha"] == 0)
        assert queue["policy"]["beta"] == 1
        assert _order(queue) == ["early", "late"]
        assert (await _ask(http, "one-too-many", priority=0)).status_code == 429

        holder.cancel()
        assert [answer.status_code for answer in await asyncio.gather(early, late)] == [200, 200]

    await until(lambda: asyncio.to_thread(plain_service.serve_actors), lambda shown: shown[0]["status"] == "RUNNING")
    assert plain_service.replica_ids() == replica_ids


def _with_user_config(config: dict[str, Any], user_config: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    [ingress] = [each for each in changed["applications"][0]["deployments"] if each["name"] == "Ingress"]
    ingress["user_config"] = user_config
    return changed


def _order(queue: dict[str, Any]) -> list[str]:
    return [waiting["request_id"] for waiting in queue["waiting"]]


async def _ask(http: httpx.AsyncClient, request_id: str, *, priority: float) -> httpx.Response:
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": 1, "priority": priority}
    return await http.post("/v1/completions", json=body, headers={"x-request-id": request_id})
