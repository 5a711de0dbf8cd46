"""Answers outlive what an operator does: a scale-down, an update of the model, the end of the service."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import signal
import time
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
NUM_CLIENTS = 3
UPDATED_WITHIN_S = 240


@pytest.fixture(scope="module")
def two_replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas behind two ingresses, of a model whose answers are the same wherever they are computed."""
    folder: Path = make_certain_model(tmp_path_factory.mktemp("certain"))
    model = {
        "name": MODEL,
        "source": str(folder),
        "dtype": "float32",
        "rank_num_cpus": 0.3,
        "num_threads": 1,
        "kv_cache_tokens": 32_768,
    }
    with running_service(serve_config(model, num_replicas=2, num_ingress=2)) as service:
        yield service


async def test_answers_outlive_a_scale_down(two_replicas: Service) -> None:
    async with asked_all_along(two_replicas) as entries:
        await asyncio.to_thread(two_replicas.deploy, changed(two_replicas.config, num_replicas=1))
        await until(
            lambda: num_replicas(two_replicas), lambda counts: counts.get(MODEL) == 1, within_s=UPDATED_WITHIN_S
        )
    assert_complete(entries)


async def test_answers_outlive_an_update_of_the_model(two_replicas: Service) -> None:
    config = changed(two_replicas.config, num_replicas=2)
    await asyncio.to_thread(two_replicas.deploy, config)
    await until(lambda: num_replicas(two_replicas), lambda counts: counts.get(MODEL) == 2, within_s=UPDATED_WITHIN_S)
    before = two_replicas.replica_ids()
    config["applications"][0]["args"]["models"][0]["max_num_seqs"] = 24
    async with asked_all_along(two_replicas) as entries:
        await asyncio.to_thread(two_replicas.deploy, config)
        await until(lambda: is_replaced(two_replicas, before), bool, within_s=UPDATED_WITHIN_S)
    assert_complete(entries)


async def test_answers_outlive_the_word_to_end_and_the_service_says_that_it_takes_no_more(
    two_replicas: Service,
) -> None:
    """Last: the service is gone afterwards. Each ingress hears the word at its own next look for it."""
    question = await that_takes_about(two_replicas, 3.0)
    ingress_urls = await asyncio.to_thread(two_replicas.ingress_urls)
    asking = [asyncio.create_task(ask(two_replicas.base_url, question, f"last-{i}")) for i in range(2)]
    async with httpx.AsyncClient(base_url=two_replicas.base_url, timeout=60) as http:
        await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_running"] == len(asking))
        two_replicas.process.send_signal(signal.SIGTERM)
        await until(
            lambda: asyncio.gather(*(readiness(http, url) for url in ingress_urls)),
            lambda statuses: statuses == [503] * len(ingress_urls),
            within_s=10,
        )
        refused = await ask(two_replicas.base_url, question, "too late")
    assert (refused.end, refused.detail) == (End.REFUSED, "503 service_ending")
    assert_complete(await asyncio.gather(*asking))
    assert await asyncio.to_thread(two_replicas.process.wait, 40) == 0


@contextlib.asynccontextmanager
async def asked_all_along(service: Service) -> AsyncIterator[list[Entry]]:
    """Some clients that ask one question after the other meanwhile; their answers are all there in the end."""
    asked = [await learned(service.base_url, body) for body in questions(MODEL, 8, random.Random(0))]
    entries: list[Entry] = []
    done = asyncio.Event()

    async def ask_on(client: int) -> None:
        while not done.is_set():
            name = f"{client}-{len(entries)}"
            entries.append(await ask(service.base_url, asked[len(entries) % len(asked)], name))

    async with asyncio.TaskGroup() as clients:
        for client in range(NUM_CLIENTS):
            clients.create_task(ask_on(client))
        try:
            yield entries
        finally:
            done.set()


def assert_complete(entries: list[Entry]) -> None:
    assert entries
    assert [(entry.end, entry.detail[:200]) for entry in entries if entry.end is not End.COMPLETE] == []


async def that_takes_about(service: Service, wanted_s: float) -> Question:
    """A question whose answer takes so long on this machine."""
    body = {"model": MODEL, "prompt": "a", "max_tokens": 100, "temperature": 0, "n": 1, "ignore_eos": True}
    began_s = time.monotonic()
    await learned(service.base_url, {**body, "stream": False})  # asks twice
    num_tokens = 200 * wanted_s / (time.monotonic() - began_s)
    return await learned(
        service.base_url, {**body, "max_tokens": min(MAX_TOKENS - 8, int(num_tokens)), "stream": False}
    )


def changed(config: dict[str, Any], *, num_replicas: int) -> dict[str, Any]:
    other = copy.deepcopy(config)
    [deployment] = [one for one in other["applications"][0]["deployments"] if one["name"] == MODEL]
    deployment["num_replicas"] = num_replicas
    return other


async def num_replicas(service: Service) -> dict[str, int]:
    """The running ones of each deployment."""
    replicas = await asyncio.to_thread(service.running_replicas)
    return {name: len(found) for name, found in replicas.items()}


async def is_replaced(service: Service, before: dict[str, set[str]]) -> bool:
    """Whether as many replicas as before run, and none of those."""
    now = await asyncio.to_thread(service.replica_ids)
    return all(len(now.get(name, ())) == len(old) and not now[name] & old for name, old in before.items())


async def readiness(http: httpx.AsyncClient, url: str) -> int:
    """The status of an ingress's `/readyz`; 0 where nobody answers."""
    with contextlib.suppress(httpx.TransportError):
        return (await http.get(f"{url}/readyz", timeout=2)).status_code
    return 0
