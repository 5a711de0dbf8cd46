"""Answers outlive what an operator does: a scale-down, an update of the model, the end of the service."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.books import End, Entry
from tests.chaos.certain_model import MAX_TOKENS, make_certain_model
from tests.chaos.clients import Question, ask, learned, questions
from tests.service.running import Service, running_service, serve_config
from tests.service.waiting import queue_of, until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = "certain"
NUM_STREAMS = 4
UPDATED_WITHIN_S = 240
LONG = {"model": MODEL, "prompt": "a", "max_tokens": MAX_TOKENS - 8, "temperature": 0, "n": 1, "ignore_eos": True}


@pytest.fixture(scope="module")
def two_replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas behind two ingresses, of a model whose answers are the same wherever they are computed."""
    folder: Path = make_certain_model(tmp_path_factory.mktemp("certain"))
    model = {"name": MODEL, "source": str(folder), "dtype": "float32", "rank_num_cpus": 0.3, "kv_cache_tokens": 32_768}
    with running_service(serve_config(model, num_replicas=2, num_ingress=2)) as service:
        yield service


@contextlib.asynccontextmanager
async def answers_on_the_way(service: Service) -> AsyncIterator[list[asyncio.Task[Entry]]]:
    """Streams that have begun and will take a while."""
    question = await learned(service.base_url, {**LONG, "stream": True, "stream_options": {"include_usage": True}})
    asking = [asyncio.create_task(ask(service.base_url, question, f"long-{i}")) for i in range(NUM_STREAMS)]
    async with httpx.AsyncClient(base_url=service.base_url) as http:
        await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_running"] == NUM_STREAMS)
    yield asking


async def assert_complete(asking: list[asyncio.Task[Entry]]) -> None:
    entries = await asyncio.gather(*asking)
    assert [(entry.end, entry.detail[:200]) for entry in entries if entry.end is not End.COMPLETE] == []


async def test_answers_outlive_a_scale_down(two_replicas: Service) -> None:
    config = changed(two_replicas.config, num_replicas=1)
    async with answers_on_the_way(two_replicas) as asking:
        await asyncio.to_thread(two_replicas.deploy, config)
        await until(lambda: num_running(two_replicas), lambda counts: counts[MODEL] == 1)
        await assert_complete(asking)


async def test_answers_outlive_an_update_of_the_model_and_new_ones_are_served_all_along(two_replicas: Service) -> None:
    config = changed(two_replicas.config, num_replicas=2)
    await asyncio.to_thread(two_replicas.deploy, config)
    await until(lambda: num_running(two_replicas), lambda counts: counts == {MODEL: 2, "Ingress": 2})
    before = two_replicas.replica_ids()
    config["applications"][0]["args"]["models"][0]["max_num_seqs"] = 24
    short = [await learned(two_replicas.base_url, body) for body in questions(MODEL, 4, random.Random(0))]
    async with answers_on_the_way(two_replicas) as asking:
        updated = asyncio.Event()
        meanwhile = asyncio.create_task(ask_until(two_replicas, short, updated))
        await asyncio.to_thread(two_replicas.deploy, config)
        await until(lambda: is_new(two_replicas, before), bool, within_s=UPDATED_WITHIN_S)
        updated.set()
        await assert_complete(asking)
    ends = await meanwhile
    assert [(entry.end, entry.detail[:200]) for entry in ends if entry.end is not End.COMPLETE] == []
    assert len(ends) > NUM_STREAMS


async def test_answers_outlive_the_word_to_end_and_the_service_says_that_it_takes_no_more(
    two_replicas: Service,
) -> None:
    """Last: the service is gone afterwards."""
    question = await learned(two_replicas.base_url, {**LONG, "max_tokens": 500, "stream": False})
    asking = [asyncio.create_task(ask(two_replicas.base_url, question, f"last-{i}")) for i in range(NUM_STREAMS)]
    async with httpx.AsyncClient(base_url=two_replicas.base_url) as http:
        await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_running"] == NUM_STREAMS)
        two_replicas.process.send_signal(signal.SIGTERM)
        await until(lambda: readiness(http), lambda status: status != 200, within_s=10)
        assert not any(answer.done() for answer in asking), "it said so only when all was over"
    await assert_complete(asking)
    assert await asyncio.to_thread(two_replicas.process.wait, 40) == 0


def changed(config: dict[str, Any], *, num_replicas: int) -> dict[str, Any]:
    other = copy.deepcopy(config)
    [deployment] = [one for one in other["applications"][0]["deployments"] if one["name"] == MODEL]
    deployment["num_replicas"] = num_replicas
    return other


async def ask_until(service: Service, asked: list[Question], done: asyncio.Event) -> list[Entry]:
    """One short question after the other."""
    entries: list[Entry] = []
    while not done.is_set():
        entries.append(await ask(service.base_url, asked[len(entries) % len(asked)], f"short-{len(entries)}"))
    return entries


async def num_running(service: Service) -> dict[str, int]:
    replicas = await asyncio.to_thread(service.running_replicas)
    return {name: len(found) for name, found in replicas.items()}


async def is_new(service: Service, before: dict[str, set[str]]) -> bool:
    """Whether as many replicas as before run, and none of those."""
    now = await asyncio.to_thread(service.replica_ids)
    return now.keys() == before.keys() and all(
        len(now[name]) == len(before[name]) and not now[name] & before[name] for name in before
    )


async def readiness(http: httpx.AsyncClient) -> int:
    """The status of `/readyz`; 0 where nobody answers."""
    with contextlib.suppress(httpx.TransportError):
        return (await http.get("/readyz", timeout=2)).status_code
    return 0
