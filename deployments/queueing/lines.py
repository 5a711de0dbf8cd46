"""Owns this process's lines to the queues: one `QueueClient` for each model, made at first use, run on one loop."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.serve._private.common import DeploymentID
from ray.serve._private.long_poll import LongPollClient
from ray.serve.exceptions import DeploymentUnavailableError

from deployments.deployment_actors import QUEUE, find_in_charge
from deployments.queueing.client import QueueClient
from deployments.queueing.membership import Membership, watch_membership
from deployments.queueing.messages import Configure, Delivery, QueueMessage, SendFailed
from deployments.queueing.vital_task import loud_task
from scheduling.score import Stamp
from scheduling.snapshot import QueueSnapshot

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

    async def snapshot(self) -> QueueSnapshot:
        snapshot: QueueSnapshot = await self.actor.snapshot.remote()
        return snapshot


async def find_ray_queue(app_name: str, deployment_name: str) -> RayQueue | None:
    """The queue in charge of a model, looked up off the event loop."""
    actor = await asyncio.to_thread(find_in_charge, app_name, deployment_name, QUEUE)
    return None if actor is None else RayQueue(actor)


@dataclass(slots=True)
class _Line:
    client: QueueClient
    task: asyncio.Task[None]
    watch: LongPollClient


_lines: dict[tuple[str, str], _Line] = {}
_settings: dict[tuple[str, str], Configure] = {}
_on_sent: dict[tuple[str, str], Callable[[str, str | None], None]] = {}


def configure_queue(app_name: str, deployment_name: str, settings: Configure) -> None:
    """What this process wants the queue to go by: said to it now, and first thing to every queue that comes after."""
    key = (app_name, deployment_name)
    _settings[key] = settings
    if key in _lines:
        _lines[key].client.tell(settings)


def follow_sent(app_name: str, deployment_name: str, on_sent: Callable[[str, str | None], None]) -> None:
    """Whom this process's line tells, on its own event loop, where the calls of a model are sent: see `QueueClient`."""
    _on_sent[app_name, deployment_name] = on_sent


def queue_line(app_name: str, deployment_name: str) -> QueueClient:
    """This process's line to a model's queue. The first caller's event loop runs it."""
    key = (app_name, deployment_name)
    line = _lines.get(key)
    if line is None or line.task.done():
        if line is not None:
            line.watch.stop()
        line = _lines[key] = _new_line(app_name, deployment_name)
    return line.client


def granted_stamp(app_name: str, deployment_name: str, lease_id: str) -> Stamp | None:
    """What a lease was granted under that this process was granted lately; None if that is not known."""
    line = _lines.get((app_name, deployment_name))
    return None if line is None else line.client.stamp_of(lease_id)


def report_loss(app_name: str, deployment_name: str, lease_id: str, replica_id: str) -> None:
    """The replica was lost with this lease: nothing more is granted there until it says that it is well."""
    if (line := _lines.get((app_name, deployment_name))) is not None:
        line.client.tell(SendFailed(lease_id, replica_id))


def _new_line(app_name: str, deployment_name: str) -> _Line:
    client = QueueClient(
        _PROCESS,
        lambda: find_ray_queue(app_name, deployment_name),
        lambda: _greeting(app_name, deployment_name),
        on_sent=_on_sent.get((app_name, deployment_name), lambda lease_id, replica_id: None),
    )
    deployment_id = DeploymentID(name=deployment_name, app_name=app_name)
    watch = watch_membership(
        deployment_id,
        lambda membership: tell_whether_grants_can_come(client, deployment_id, membership),
        client_id=f"{QueueClient.__name__}:{_PROCESS}:{deployment_id}",
    )
    return _Line(client, loud_task(client.run(), f"the line to the queue of {deployment_name}"), watch)


def tell_whether_grants_can_come(client: QueueClient, deployment_id: DeploymentID, membership: Membership) -> None:
    """Whoever waits for a model that cannot serve ends as Serve ends those who come later, with the same error."""
    if membership.can_serve:
        client.hope_again()
    else:
        client.give_up(lambda: DeploymentUnavailableError(deployment_id))


def _greeting(app_name: str, deployment_name: str) -> list[QueueMessage]:
    settings = _settings.get((app_name, deployment_name))
    return [] if settings is None else [settings]
