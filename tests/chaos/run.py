"""Owns one chaos run: load, disturbances at random moments, recovery, and what must be left, which is nothing."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.chaos.books import Books, End, Event, balanced
from tests.chaos.clients import Crowd, learned, questions
from tests.chaos.cluster import MODEL, NUM_INGRESS, NUM_RANKS, NUM_REPLICAS, Cluster
from tests.chaos.disturbances import DISTURBANCES
from tests.chaos.evidence import mentions
from tests.service.running import shared_memory_segments
from tests.service.waiting import is_empty, metric_samples, queue_of, until

NUM_QUESTIONS = 24
CALM = 8  # requests, at most, that end between two events; by their number, the moment is another in each run
CALM_WITHIN_S = 5.0
WHOLE_WITHIN_S = 180.0
ENDS_WITHIN_S = 240.0
NOBODY = "nobody there"
OVERLAP = 0.25  # so often another event comes before the service has recovered from one
Say = Callable[[str], None]


@dataclass(slots=True)
class Report:
    """What a run found.

    slowest_s: the longest that a whole answer took. slack_s: the least distance to the bound on overtaking that was
    seen after any event; None where nobody was overtaken. told: what the logs say of the requests that were lost.
    """

    seed: int
    events: list[Event]
    books: Books
    slowest_gap_s: float
    slowest_s: float
    slack_s: float | None
    left: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return self.books.balance and not self.left and (self.slack_s is None or self.slack_s >= 0)


async def chaos(
    cluster: Cluster, seed: int, kinds: list[str], say: Say, within_s: float = math.inf, overlap: float = OVERLAP
) -> Report:
    """Disturbs the service once for each of `kinds`, in this order, while a crowd asks it questions.

    within_s: no disturbance begins after so long. overlap: the share of them that the next one does not wait for.
    """
    rng, began_s = random.Random(seed), time.monotonic()
    await until_whole(cluster)
    asked = [await learned(cluster.service.base_url, body) for body in questions(MODEL, NUM_QUESTIONS, rng)]
    crowd = Crowd(cluster.service.base_url, asked, random.Random(seed + 1))
    asking = asyncio.create_task(crowd.run())
    events: list[Event] = []
    slacks_s: list[float] = []
    try:
        while kinds and time.monotonic() < began_s + within_s:
            batch = [kinds.pop(0)]
            if kinds and rng.random() < overlap:
                batch.append(kinds.pop(0))
            events += await _disturb(cluster, crowd, batch, rng, len(events), say)
            slacks_s += await _least_slack_s(cluster)
    finally:
        crowd.stop()
        async with asyncio.timeout(ENDS_WITHIN_S):
            await asking
    return await _report(cluster, crowd, events, seed, min(slacks_s, default=None))


async def _disturb(
    cluster: Cluster, crowd: Crowd, batch: list[str], rng: random.Random, number: int, say: Say
) -> list[Event]:
    await crowd.let_some_end(rng.randint(1, CALM), CALM_WITHIN_S)
    done = []
    for kind in batch:
        at_s = time.monotonic()
        what = await DISTURBANCES[kind](cluster, crowd, rng)
        done.append((kind, at_s, what))
        await crowd.let_some_end(rng.randint(0, CALM), CALM_WITHIN_S)
    await until_whole(cluster)
    over_s = time.monotonic()
    events = [Event(number + i, kind, at_s, over_s, what or NOBODY) for i, (kind, at_s, what) in enumerate(done)]
    for event in events:
        say(f"{event.number:4} {event.kind:16} {event.what:24} whole again after {over_s - event.at_s:5.1f} s")
    return events


async def until_whole(cluster: Cluster) -> None:
    """Until nobody is stopped any more, all replicas run, and a request would be answered."""
    await until(lambda: asyncio.to_thread(cluster.stopped), lambda pids: not pids, within_s=WHOLE_WITHIN_S)
    wanted = {MODEL: NUM_REPLICAS, "Ingress": NUM_INGRESS}

    async def running() -> dict[str, int]:
        try:
            replicas = await asyncio.to_thread(cluster.service.running_replicas)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return {repr(error): 1}
        return {name: len(found) for name, found in replicas.items()}

    await until(running, lambda counts: counts == wanted, within_s=WHOLE_WITHIN_S)
    async with httpx.AsyncClient(base_url=cluster.service.base_url, timeout=10) as http:
        await until(lambda: _is_ready(http), bool, within_s=WHOLE_WITHIN_S)


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def _least_slack_s(cluster: Cluster) -> list[float]:
    """The present queue actor's; none where nobody was overtaken since it began."""
    async with httpx.AsyncClient(base_url=cluster.service.base_url, timeout=30) as http:
        samples = await until(
            lambda: metric_samples(http, "fastserve:overtaking_bound_margin_seconds"),
            lambda samples: samples is not None,
            within_s=WHOLE_WITHIN_S,
        )
    return samples or []


async def _report(cluster: Cluster, crowd: Crowd, events: list[Event], seed: int, slack_s: float | None) -> Report:
    await until_whole(cluster)
    books = balanced(crowd.sent, crowd.entries, events)
    async with httpx.AsyncClient(base_url=cluster.service.base_url, timeout=30) as http:
        left = []
        try:
            await until(lambda: queue_of(http, MODEL), is_empty)
        except AssertionError as error:
            left.append(f"leases: {error}")
        left += await _processes_too_many(cluster)
    gap_s = max((entry.worst_gap_s for entry in crowd.entries), default=0.0)
    slowest_s = max((entry.ended_s - entry.sent_s for entry in crowd.entries if entry.end is End.COMPLETE), default=0.0)
    told = mentions(cluster.folder, [entry.request_id for entry in books.lost])
    left += sorted(shared_memory_segments())
    return Report(seed, events, books, gap_s, slowest_s, slack_s, left, told)


async def _processes_too_many(cluster: Cluster) -> list[str]:
    """What is there beside the processes of the replicas that run: none outlives its replica for long."""
    wanted = {"ray::Rank": NUM_RANKS * NUM_REPLICAS, f"ray::ServeReplica:fastserve:{MODEL}": NUM_REPLICAS}

    async def counted() -> dict[str, int]:
        return {title: len(await asyncio.to_thread(cluster.titled, title)) for title in wanted}

    try:
        await until(counted, lambda counts: counts == wanted)
    except AssertionError as error:
        return [f"processes: {error}"]
    return []
