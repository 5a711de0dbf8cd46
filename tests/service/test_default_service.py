"""The shipped model behind two ingress replicas, started by `fastserve serve`: what users and operators see."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import openai
import pytest

from tests.service.conftest import MODEL
from tests.service.disconnect_checks import check_a_disconnect_frees_its_slot, give_up, read_on, streaming
from tests.service.hostile_checks import HOSTILE_CHECKS, allow_files
from tests.service.openai_checks import ALL_CHECKS, client_of
from tests.service.readme import README_URL, python_block, shell_block
from tests.service.running import COMMANDS, Service, addresses_of
from tests.service.structured_checks import STRUCTURED_CHECKS
from tests.service.waiting import FREED_WITHIN_S, is_empty, metric_total, queue_of, settled_total, until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

QUESTION = "What is the capital of France?"
SECRET = "xylophone-7731"
NUM_SLOTS = 32
NUM_BULK = 1_000
NUM_FILES = 1_200  # theirs, and others
ALL_AT_ONCE = httpx.Limits(max_connections=None)
NUM_ASKED = 4
RUNNING = "vllm:num_requests_running"
STEPS = "fastserve:engine_steps_total"
SUCCESSES = "vllm:request_success_total"


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.__name__)
def test_the_openai_client_is_answered(default_service: Service, check: Callable[[openai.OpenAI], None]) -> None:
    check(client_of(default_service.base_url))


@pytest.mark.parametrize("check", STRUCTURED_CHECKS, ids=lambda check: check.__name__)
def test_answers_follow_the_form_and_call_the_tools(
    default_service: Service, check: Callable[[openai.OpenAI], None]
) -> None:
    check(client_of(default_service.base_url))


async def test_sixteen_requests_share_their_steps(default_service: Service) -> None:
    """What an ingress does for its first request alone is done before."""
    num_tokens = 64
    body = {"model": MODEL, "prompt": "Count", "max_tokens": num_tokens, "ignore_eos": True}
    async with httpx.AsyncClient(base_url=default_service.base_url, timeout=120) as http:
        for ingress_url in default_service.ingress_urls():
            (await http.post(f"{ingress_url}/v1/completions", json={**body, "max_tokens": 1})).raise_for_status()
        before = await settled_total(http, STEPS)
        answers = await asyncio.gather(*(http.post("/v1/completions", json=body) for _ in range(16)))
        assert [answer.json()["usage"]["completion_tokens"] for answer in answers] == [num_tokens] * 16
        after = await settled_total(http, STEPS)

    assert num_tokens <= after - before <= 1.2 * num_tokens


async def test_metrics_are_the_same_whichever_ingress_answers(default_service: Service) -> None:
    """Fresh connections are spread over the two ingresses, which then are asked for the metrics one by one."""
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": 1}
    for _ in range(NUM_ASKED):
        async with httpx.AsyncClient(base_url=default_service.base_url, timeout=60) as http:
            assert (await http.post("/v1/completions", json=body)).status_code == 200
    async with httpx.AsyncClient(base_url=default_service.base_url, timeout=60) as http:
        expected = await settled_total(http, SUCCESSES)
    assert expected >= NUM_ASKED

    totals = []
    for ingress_url in default_service.ingress_urls():
        async with httpx.AsyncClient(base_url=ingress_url, timeout=60) as http:
            totals.append(await metric_total(http, SUCCESSES))

    assert totals == [expected, expected]


def test_rays_dashboard_and_job_api_listen_on_this_machine_alone(default_service: Service) -> None:
    assert addresses_of(default_service.process.pid, httpx.URL(default_service.dashboard_url).port) == {"127.0.0.1"}


async def test_the_queue_never_shows_a_prompt(default_service: Service) -> None:
    body = {"model": MODEL, "prompt": SECRET, "max_tokens": 200, "ignore_eos": True}
    async with httpx.AsyncClient(base_url=default_service.base_url, timeout=120) as http:
        asking = [asyncio.create_task(http.post("/v1/completions", json=body)) for _ in range(40)]
        await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_waiting"] > 0)
        shown = (await http.get("/v1/queue")).text
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await until(lambda: queue_of(http, MODEL), is_empty)

    assert "num_prompt_tokens" in shown
    assert SECRET not in shown


async def test_an_urgent_request_passes_a_thousand_long_prompts(default_service: Service) -> None:
    """No two begin alike, so that none is cached: it is answered before those are through that had all slots."""
    allow_files(NUM_FILES)
    urgent = {"model": MODEL, "prompt": "Hi", "max_tokens": 1, "priority": 10, "stream": True}
    async with (
        httpx.AsyncClient(base_url=default_service.base_url, timeout=300) as http,
        crowd(http.base_url) as clients,
    ):
        asking = [
            asyncio.create_task(client.post("/v1/completions", json=long_bulk(number)))
            for number, client in zip(range(NUM_BULK), itertools.cycle(clients))
        ]
        await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_waiting"] > 0)
        num_before = num_answered(asking)
        async with http.stream("POST", "/v1/completions", json=urgent) as response:
            assert response.status_code == 200
            num_meanwhile = num_answered(asking) - num_before
        await give_up(asking)
        await until(lambda: queue_of(http, MODEL), is_empty)

    assert num_meanwhile < NUM_SLOTS


def num_answered(asking: list[asyncio.Task[httpx.Response]]) -> int:
    return sum(task.done() and task.result().status_code == 200 for task in asking)


@contextlib.asynccontextmanager
async def crowd(base_url: httpx.URL) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Twenty clients for a thousand connections: each looks through all of its own for every request."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(httpx.AsyncClient(base_url=base_url, timeout=300, limits=ALL_AT_ONCE))
            for _ in range(20)
        ]


def long_bulk(number: int) -> dict[str, object]:
    prompt = f"{number} " + "lorem ipsum dolor sit amet " * 200
    return {"model": MODEL, "prompt": prompt, "max_tokens": 1, "priority": -10}


async def test_a_client_that_disconnects_frees_its_slot_within_a_second(default_service: Service) -> None:
    await check_a_disconnect_frees_its_slot(default_service, MODEL, num_slots=NUM_SLOTS)


async def test_clients_that_disconnect_leave_nothing_behind_queued_or_streaming(default_service: Service) -> None:
    async with (
        httpx.AsyncClient(base_url=default_service.base_url, timeout=120) as http,
        streaming(default_service, MODEL, NUM_SLOTS) as clients,
    ):
        queued = [asyncio.create_task(read_on(default_service, MODEL)) for _ in range(3)]
        await until(lambda: queue_of(http, MODEL), lambda queue: queue["num_waiting"] == len(queued))

        await give_up(queued)
        queue = await until(
            lambda: queue_of(http, MODEL), lambda queue: queue["num_waiting"] == 0, within_s=FREED_WITHIN_S
        )
        assert queue["num_running"] == NUM_SLOTS
        await until(lambda: metric_total(http, RUNNING), lambda running: running == NUM_SLOTS)

        await give_up(clients)
        await until(lambda: queue_of(http, MODEL), is_empty, within_s=FREED_WITHIN_S)
        await until(lambda: metric_total(http, RUNNING), lambda running: running == 0)


@pytest.mark.parametrize("check", HOSTILE_CHECKS, ids=lambda check: check.__name__)
async def test_clients_that_give_nothing_are_cut_off_and_nobody_waits_for_them(
    default_service: Service, check: Callable[[Service, str], Awaitable[None]]
) -> None:
    await check(default_service, MODEL)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"model": "nobody", "prompt": "Hi"}', 404, "model"),
        (json.dumps({"model": MODEL, "prompt": "Hi", "temperature": "hot"}).encode(), 400, "temperature"),
        (json.dumps({"model": MODEL, "prompt": "Hi", "max_tokens": -1}).encode(), 400, "max_tokens"),
        (b'{"model": "%s", "prompt": "Hi", "temperature": NaN}' % MODEL.encode(), 400, None),
        (json.dumps({"model": MODEL, "prompt": [1] * 8192, "max_tokens": 1}).encode(), 400, "prompt"),
        (json.dumps({"model": MODEL, "prompt": "Hi", "no_such_field": 1}).encode(), 400, "no_such_field"),
    ],
)
def test_bad_input_is_answered_and_the_service_goes_on(
    default_service: Service, body: bytes, status: int, param: str | None
) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{default_service.base_url}/v1/completions", content=body, headers=headers, timeout=60)

    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert "Traceback" not in answer.text
    assert httpx.get(f"{default_service.base_url}/readyz", timeout=60).status_code == 200


def test_a_prompt_that_leaves_one_token_for_the_answer_is_answered(default_service: Service) -> None:
    body = {"model": MODEL, "prompt": [1] * 8191, "max_tokens": 1}

    answer = httpx.post(f"{default_service.base_url}/v1/completions", json=body, timeout=500)  # through plain modules

    assert answer.json()["usage"] == {
        **answer.json()["usage"],
        "prompt_tokens": 8191,
        "completion_tokens": 1,
    }


def test_each_response_carries_one_request_id(default_service: Service) -> None:
    answer = httpx.get(f"{default_service.base_url}/healthz", headers={"x-request-id": "mine-42"}, timeout=60)

    assert answer.headers.get_list("x-request-id") == ["mine-42"]


async def test_each_finished_request_is_one_json_line(default_service: Service) -> None:
    body = {"model": MODEL, "prompt": SECRET, "max_tokens": 3, "priority": 7, "ignore_eos": True}
    async with httpx.AsyncClient(base_url=default_service.base_url, timeout=60) as http:
        answer = await http.post("/v1/completions", json=body, headers={"x-request-id": "logged-1"})
    assert answer.status_code == 200

    async def lines() -> list[dict[str, object]]:
        return [line for line in await default_service.json_lines("request") if line["request_id"] == "logged-1"]

    [line] = await until(lines, bool)
    assert (line["model"], line["priority"], line["class"]) == (MODEL, 7.0, "urgent")
    assert (line["output_tokens"], line["finish_reasons"], line["status"]) == (3, ["length"], 200)
    assert {"tenant", "key", "queue_ms", "ttft_s", "tpot_s", "replica"} <= set(line)
    assert SECRET not in json.dumps(line)


def test_the_simple_form_answers(default_service: Service) -> None:
    body = {"prompt": "The capital of France is", "max_length": 16, "temperature": 0.0}

    answer = httpx.post(f"{default_service.base_url}/generate", json=body, timeout=60).json()

    assert "Paris" in answer["generated_text"]
    assert answer["model_name"] == MODEL
    assert answer["generation_time"] > 0


@pytest.mark.parametrize(("given", "typed"), [([QUESTION], ""), ([], f"{QUESTION}\n")], ids=["one question", "typed"])
def test_the_command_line_chats(default_service: Service, given: list[str], typed: str) -> None:
    command = [str(COMMANDS / "fastserve"), "chat", *given, "--temperature", "0", "--url", default_service.base_url]

    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert "The capital of France is Paris." in done.stdout


def test_the_readmes_curl_is_answered(default_service: Service) -> None:
    shown = shell_block("curl").replace(README_URL, default_service.base_url)

    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert "Paris" in json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_the_readmes_openai_client_is_answered(default_service: Service) -> None:
    shown = python_block("OpenAI").replace(README_URL, default_service.base_url)

    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
