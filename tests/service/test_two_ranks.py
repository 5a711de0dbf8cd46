"""One replica of two ranks with one slot, behind two ingress replicas: answers, order, and the death of a rank."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import openai
import psutil
import pytest

from tests.service.conftest import MODEL
from tests.service.disconnect_checks import check_a_disconnect_frees_its_slot
from tests.service.failover_checks import BODIES, check_a_stream_outlives_its_replica
from tests.service.openai_checks import ALL_CHECKS, client_of
from tests.service.order_checks import check_starts_in_key_order
from tests.service.preemption_checks import check_an_urgent_request_takes_the_place_of_bulk_work
from tests.service.running import Service, shared_memory_segments
from tests.service.waiting import until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

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


@pytest.mark.parametrize(
    ("victim", "number", "body"),
    [
        ("rank", signal.SIGKILL, BODIES[0]),
        ("rank", signal.SIGSTOP, BODIES[1]),
        ("replica", signal.SIGKILL, BODIES[1]),
        ("replica", signal.SIGSTOP, BODIES[0]),
        ("all of it", signal.SIGSTOP, BODIES[1]),
    ],
    ids=["rank-killed", "rank-stopped", "replica-killed", "replica-stopped", "all-stopped"],
)
async def test_a_stream_outlives_the_only_replica(
    one_slot_tp2_service: Service, victim: str, number: signal.Signals, body: dict[str, Any]
) -> None:
    """Last in this module: the replica that the other tests used is replaced."""
    service = one_slot_tp2_service
    ranks, replicas = service.rank_processes(), service.replica_processes(MODEL)
    assert (len(ranks), len(replicas)) == (2, 1)
    victims = {"rank": ranks[1:], "replica": replicas, "all of it": [*ranks, *replicas]}[victim]
    await check_a_stream_outlives_its_replica(service.base_url, MODEL, body, partial(_signal, victims, number))
    _, alive = await asyncio.to_thread(psutil.wait_procs, [*ranks, *replicas], GONE_WITHIN_S)
    assert not alive, "processes of the replica that failed are left"
    assert shared_memory_segments() == set()


def _signal(victims: list[psutil.Process], number: signal.Signals) -> None:
    for victim in victims:
        victim.send_signal(number)
