"""Owns what a chaos run does to the service: which process dies or stops, which cable is pulled. Judges nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable, Mapping

import psutil

from tests.chaos.clients import Crowd
from tests.chaos.cluster import MODEL, Cluster
from tests.service.running import descendants

MAX_CUT_S = 8.0
#: Does it, and says what was done; None where there was nobody to do it to.
Disturbance = Callable[[Cluster, Crowd, random.Random], Awaitable[str | None]]


async def client(cluster: Cluster, crowd: Crowd, rng: random.Random) -> str | None:
    return crowd.send_one_away()


async def node(cluster: Cluster, crowd: Crowd, rng: random.Random) -> str | None:
    """The second host loses its power, and comes back."""
    family = descendants(cluster.second.pid)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    await asyncio.to_thread(cluster.second.wait)
    await asyncio.to_thread(cluster.replace_second)
    return f"{len(family)} processes"


async def network(cluster: Cluster, crowd: Crowd, rng: random.Random) -> str | None:
    """The cable between the hosts is out for a while; where that is too long for Ray, the second host joins anew."""
    if cluster.hosts.cable is None:
        return None
    cut_s = rng.uniform(0.5, MAX_CUT_S)
    cluster.hosts.cut()
    try:
        await asyncio.sleep(cut_s)
    finally:
        cluster.hosts.mend()
    return f"for {cut_s:.1f} s"


def killing(title: str) -> Disturbance:
    """Ends a process at once."""
    return _signalling(title, signal.SIGKILL)


def stopping(title: str) -> Disturbance:
    """Stops a process: it closes nothing, and says nothing."""
    return _signalling(title, signal.SIGSTOP)


def _signalling(title: str, number: signal.Signals) -> Disturbance:
    async def disturb(cluster: Cluster, crowd: Crowd, rng: random.Random) -> str | None:
        found = sorted(await asyncio.to_thread(cluster.going, title), key=lambda process: process.pid)
        if not found:
            return None
        victim = rng.choice(found)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(number)
            return f"{number.name} to {victim.pid}"
        return None

    return disturb


#: By kind. The kinds that stop a process stand beside those that kill it.
DISTURBANCES: Mapping[str, Disturbance] = {
    "client": client,
    "ingress": killing("ray::ServeReplica:fastserve:Ingress"),
    "ingress stopped": stopping("ray::ServeReplica:fastserve:Ingress"),
    "replica": killing(f"ray::ServeReplica:fastserve:{MODEL}"),
    "replica stopped": stopping(f"ray::ServeReplica:fastserve:{MODEL}"),
    "rank": killing("ray::Rank"),
    "rank stopped": stopping("ray::Rank"),
    "queue": killing("ray::PriorityQueue"),
    "queue stopped": stopping("ray::PriorityQueue"),
    "proxy": killing("ray::ProxyActor"),
    "haproxy": killing("bin/haproxy"),
    "controller": killing("ray::ServeController"),
    "node": node,
    "network": network,
}
