"""Owns this process's lines to the queues: one `QueueClient` for each model, made at first use, run on one loop."""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import dataclass
from typing import Any

from deployments.queue_client import QueueActorHandle, QueueClient
from deployments.queue_discovery import find_queue
from deployments.queue_messages import Delivery, QueueMessage

_PROCESS = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class RayQueue:
    """A Ray actor handle with the two calls that a client makes."""

    actor: Any

    async def submit(self, owner: str, messages: list[QueueMessage], num_seen: int) -> Delivery:
        delivery: Delivery = await self.actor.submit.remote(owner, messages, num_seen)
        return delivery

    async def poll(self, owner: str, num_seen: int) -> Delivery:
        delivery: Delivery = await self.actor.poll.remote(owner, num_seen)
        return delivery


async def find_ray_queue(app_name: str, deployment_name: str) -> QueueActorHandle | None:
    """The queue in charge of a model, looked up off the event loop."""
    actor = await asyncio.to_thread(find_queue, app_name, deployment_name)
    return None if actor is None else RayQueue(actor)


@dataclass(slots=True)
class _Line:
    client: QueueClient
    task: asyncio.Task[None]
    loop: asyncio.AbstractEventLoop


_lines: dict[tuple[str, str], _Line] = {}


def queue_line(app_name: str, deployment_name: str) -> QueueClient:
    """This process's line to a model's queue. The first caller's event loop runs it."""
    key = (app_name, deployment_name)
    line = _lines.get(key)
    if line is None or line.task.done():
        client = QueueClient(_PROCESS, lambda: find_ray_queue(app_name, deployment_name))
        loop = asyncio.get_running_loop()
        line = _lines[key] = _Line(client, loop.create_task(client.run(), name=f"queue-line-{deployment_name}"), loop)
    return line.client


def known_line(app_name: str, deployment_name: str) -> QueueClient | None:
    """The line if a router of this process has opened one; for telling the queue things from any thread."""
    line = _lines.get((app_name, deployment_name))
    return None if line is None else line.client
