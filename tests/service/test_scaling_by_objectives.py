"""Replicas by the waits of the service classes, with the policy of `serve_config.yaml`. Two fake models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
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
BY_OBJECTIVES: dict[str, Any] = {
    "metrics_interval_s": 0.5,  # the last replica stays while Serve's own counts, which lag, are above 0
    "look_back_period_s": 1.0,
    "upscale_delay_s": 0,
    "downscale_delay_s": 0,
    "policy": {
        "policy_function": "deployments.autoscaling:ByObjectives",
        "policy_kwargs": {"downscale_window_s": 3, "idle_window_s": 3},
    },
}
CLASSES = {
    "standard": {"min_priority": 0, "ttft_s": 0.5, "tpot_s": 1.0},
    "flex": {"min_priority": -100, "ttft_s": 0.5, "tpot_s": 1.0},
}
SCALES_WITHIN_S = 120.0
NUM_CLIENTS = 8
NUM_FLEX_ANSWERS = 60  # in which a queue of two slots measures its rate many times over


@pytest.fixture(scope="module")
def scaling_service() -> Iterator[Service]:
    one_or_two = {"min_replicas": 1, "max_replicas": 2, **BY_OBJECTIVES}
    config = serve_config({"name": "one-or-two", **FAKE}, autoscaling=one_or_two, user_config={"classes": CLASSES})
    application = config["applications"][0]
    application["args"]["models"].append({"name": "none-or-one", **FAKE})
    none_or_one = {"min_replicas": 0, "max_replicas": 1, "initial_replicas": 0, **BY_OBJECTIVES}
    application["deployments"].append({"name": "none-or-one", "autoscaling_config": none_or_one})
    with running_service(config) as service:
        yield service


class Clients:
    """Ask for one answer after another; more of them than there are slots."""

    def __init__(self, service: Service, model: str, priority: float) -> None:
        self._service = service
        self._body = {
            "model": model,
            "prompt": "Hi",
            "max_tokens": 25,
            "ignore_eos": True,
            "priority": priority,
        }
        self.num_answers = 0

    async def ask_on(self) -> None:
        async with httpx.AsyncClient(base_url=self._service.base_url, timeout=SCALES_WITHIN_S) as http:
            while True:
                (await http.post("/v1/completions", json=self._body)).raise_for_status()
                self.num_answers += 1


@asynccontextmanager
async def backlog(service: Service, model: str, priority: float) -> AsyncIterator[Clients]:
    """A standing one; it ends with the block, and the first client that fails ends the test."""
    clients = Clients(service, model, priority)
    asking = [asyncio.create_task(clients.ask_on()) for _ in range(NUM_CLIENTS)]
    try:
        yield clients
        for task in asking:
            if task.done():
                task.result()
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def until_replicas(service: Service, model: str, wanted: int) -> None:
    await until(
        lambda: asyncio.to_thread(service.replica_ids),
        lambda replica_ids: len(replica_ids[model]) == wanted,
        within_s=SCALES_WITHIN_S,
    )


def num_ordered(service: Service, model: str) -> int:
    """Replicas in whatever state, those that have yet to start included."""
    [application] = service.serve_actors()
    return len(application["deployments"][model]["replicas"])


async def test_a_backlog_below_priority_0_stays_with_one_replica_and_a_standard_one_takes_two(
    scaling_service: Service,
) -> None:
    await until_replicas(scaling_service, "one-or-two", 1)

    async with backlog(scaling_service, "one-or-two", priority=-10) as flex:
        await until(
            lambda: asyncio.sleep(0, flex.num_answers), lambda num: num >= NUM_FLEX_ANSWERS, within_s=SCALES_WITHIN_S
        )
        assert await asyncio.to_thread(num_ordered, scaling_service, "one-or-two") == 1

        async with backlog(scaling_service, "one-or-two", priority=0):
            await until_replicas(scaling_service, "one-or-two", 2)

    await until_replicas(scaling_service, "one-or-two", 1)


async def test_a_model_that_has_been_idle_has_no_replica_and_wakes_for_a_request(scaling_service: Service) -> None:
    await until_replicas(scaling_service, "none-or-one", 0)

    async with httpx.AsyncClient(base_url=scaling_service.base_url, timeout=SCALES_WITHIN_S) as http:
        body = {"model": "none-or-one", "prompt": "Hi", "max_tokens": 2}
        answer = await http.post("/v1/completions", json=body)

    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 2
    await until_replicas(scaling_service, "none-or-one", 0)
