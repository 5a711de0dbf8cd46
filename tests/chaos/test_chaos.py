"""A short chaos run on real processes: `make chaos` is the long one."""

from __future__ import annotations

import httpx
import pytest

from fastserve.haproxy import find_haproxy
from tests.chaos.cluster import running_cluster
from tests.chaos.run import NOBODY, chaos

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 7
KINDS = [
    "rank",
    "client",
    "haproxy",
    "network",
    "queue stopped",
    "replica stopped",
    "ingress stopped",
]  # stopped, then killed

CLOSED = ["/api/serve/applications/", "/api/jobs/"]  # to who has no token


async def test_nothing_is_lost_doubled_or_left_behind_when_one_part_after_the_other_fails() -> None:
    said: list[str] = []
    with running_cluster() as cluster:
        is_there = {"network": cluster.hosts.cable is not None, "haproxy": find_haproxy() is not None}
        kinds = [kind for kind in KINDS if is_there.get(kind, True)]
        async with httpx.AsyncClient(base_url=cluster.service.dashboard_url, timeout=30) as stranger:
            assert [(await stranger.get(path)).status_code for path in CLOSED] == [401, 401]
        report = await chaos(cluster, SEED, kinds, said.append)
    print("\n".join(said + report.told))  # noqa: T201 - shown where the test fails
    assert [(entry.request_id, entry.end, entry.detail) for entry in report.books.lost] == []
    assert report.left == []
    assert report.is_clean
    assert [event.kind for event in report.events if event.what == NOBODY and event.kind != "client"] == []
    assert report.books.num_sent > len(KINDS)
