"""Ray's own `serve run`, without the launcher: the plain proxy, routers on a loop of their own, and the same order."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.service.order_checks import check_starts_in_key_order
from tests.service.running import Service, running_service, serve_config

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
