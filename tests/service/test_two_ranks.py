"""One replica of two ranks with one slot, behind two ingress replicas: answers, order, and the death of a rank."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.service.conftest import MODEL
from tests.service.disconnect_checks import check_a_disconnect_frees_its_slot
from tests.service.openai_checks import ALL_CHECKS, CAPITAL, client_of
from tests.service.order_checks import check_starts_in_key_order
from tests.service.preemption_checks import check_an_urgent_request_takes_the_place_of_bulk_work
from tests.service.running import Service
from tests.service.waiting import until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

BEGINS_WITHIN_S = 60.0
GONE_WITHIN_S = 5.0
FLOAT32_BYTES = 4 * 134_515_008  # the unsplit model


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.__name__)
def test_the_openai_client_is_answered(one_slot_tp2_service: Service, check: Callable[[openai.OpenAI], None]) -> None:
    check(client_of(one_slot_tp2_service.base_url))


async def test_an_urgent_request_takes_the_place_of_bulk_work(one_slot_tp2_service: Service) -> None:
    await check_an_urgent_request_takes_the_place_of_bulk_work(one_slot_tp2_service.base_url, MODEL)


async def test_each_rank_says_its_bytes_and_holds_a_part(one_slot_tp2_service: Service) -> None:
    [loaded, *_] = await until(lambda: one_slot_tp2_service.json_lines("model loaded"), bool)

    assert len(loaded["model_bytes"]) == 2
    assert max(loaded["model_bytes"]) < 0.8 * FLOAT32_BYTES


async def test_thirty_requests_start_in_key_order(one_slot_tp2_service: Service) -> None:
    await check_starts_in_key_order(one_slot_tp2_service.base_url, MODEL, seed=20)


async def test_a_client_that_disconnects_frees_its_slot_on_both_ranks_within_a_second(
    one_slot_tp2_service: Service,
) -> None:
    await check_a_disconnect_frees_its_slot(one_slot_tp2_service, MODEL, num_slots=1)


async def test_the_death_of_a_rank_ends_the_group_and_the_service_goes_on(one_slot_tp2_service: Service) -> None:
    """Last in this module: the replica that the other tests used is replaced."""
    service = one_slot_tp2_service
    ranks = service.rank_processes()
    assert len(ranks) == 2
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    async with httpx.AsyncClient(base_url=service.base_url, timeout=120) as http:
        began = asyncio.Event()
        streaming = asyncio.create_task(_last_event(http, body, began))
        await asyncio.wait_for(began.wait(), BEGINS_WITHIN_S)

        os.kill(ranks[1].pid, signal.SIGKILL)
        _, alive = await asyncio.to_thread(psutil.wait_procs, ranks, GONE_WITHIN_S)
        assert not alive
        status, last = await streaming
        capital = {"model": MODEL, "messages": CAPITAL, "temperature": 0}
        answer = await until(
            lambda: http.post("/v1/chat/completions", json=capital), lambda answer: answer.status_code == 200
        )

    assert status == 200
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "replica_failed"
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]
    assert _shared_memory_segments() == []


def _shared_memory_segments() -> list[str]:
    return [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith("deepspeed")]


async def _last_event(http: httpx.AsyncClient, body: dict[str, object], began: asyncio.Event) -> tuple[int, str]:
    """Reads a stream to its end; `began` is set with the first event."""
    last = ""
    async with http.stream("POST", "/v1/completions", json=body) as response:
        async for line in response.aiter_lines():
            began.set()
            last = line or last
        return response.status_code, last
