"""API keys in a file, with quotas, on the real service: counted over two ingresses, and changed while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.tenant_keys import digest_of
from tests.service.conftest import EMBEDDED
from tests.service.running import Service, running_service, serve_config
from tests.service.waiting import until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

CHANGED_WITHIN_S = 30
MAX_REQUESTS = 3


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    write(file, with_key("first"))
    return file


@pytest.fixture(scope="module")
def service(keys_file: Path) -> Iterator[Service]:
    config = serve_config(EMBEDDED, num_ingress=2, user_config={"tenant_keys_file": str(keys_file)})
    with running_service(config) as service:
        yield service


def with_key(key: str) -> str:
    """One key, of which the service is told the digest."""
    return f"'sha256:{digest_of(key.encode())}': {{name: lab, max_requests_per_min: {MAX_REQUESTS}}}\n"


def write(file: Path, text: str) -> None:
    """All at once: each ingress sees one change."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(file)


def listed(url: str, key: str) -> int:
    return httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=30).status_code


def generated(url: str, key: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{url}/generate", json={"prompt": "Hi", "max_length": 2}, headers=headers, timeout=60)


def test_a_quota_holds_over_all_ingresses_and_a_new_file_of_keys_counts_without_a_restart(
    service: Service, keys_file: Path
) -> None:
    one, other = service.ingress_urls()

    async def who_is_let_in() -> list[int]:
        return [listed(url, key) for url in (one, other) for key in ("first", "second")]

    async def complaints() -> list[dict[str, Any]]:
        return await service.json_lines("new API keys cannot be used, the keys of before stay")

    assert asyncio.run(who_is_let_in()) == [200, 401, 200, 401]

    answers = [generated(url, "first") for url in (one, other) * 3]
    assert [answer.status_code for answer in answers] == [200] * MAX_REQUESTS + [429] * (6 - MAX_REQUESTS)
    assert 0 < int(answers[-1].headers["retry-after"]) <= 61

    write(keys_file, with_key("second"))
    asyncio.run(until(who_is_let_in, lambda now: now == [401, 200, 401, 200], within_s=CHANGED_WITHIN_S))
    assert generated(other, "second").status_code == 200

    write(keys_file, "broken: {")
    asyncio.run(until(complaints, lambda lines: len(lines) == len((one, other)), within_s=CHANGED_WITHIN_S))
    assert asyncio.run(who_is_let_in()) == [401, 200, 401, 200]
    assert [generated(url, "second").status_code for url in (one, other)] == [200, 200]
