"""Owns what operators may see of the queue: who waits, in order, and why; never a prompt. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from scheduling.leases import Lease
from scheduling.queue import WaitingQueue
from scheduling.replicas import Fleet, Replica, WaitReason
from scheduling.score import ScorePolicy
from scheduling.traffic import Traffic


@dataclass(frozen=True, slots=True)
class WaitingView:
    """One waiting ticket."""

    request_id: str
    lease_id: str
    service_class: str
    tenant: str
    priority: float
    key: float
    waited_s: float
    num_prompt_tokens: int
    why: WaitReason
    expected_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RunningView:
    """One lease, as far as its ticket is known here."""

    lease_id: str
    service_class: str
    priority: float
    expected_tokens: int


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica and the lease ids that it holds."""

    replica_id: str
    running: tuple[str, ...]
    max_num_seqs: int
    reserved_tokens: int
    kv_tokens: int
    quarantined: bool
    started_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The queue at one moment; `waiting` in the order in which it will run. `traffic`: since the queue began."""

    policy: ScorePolicy
    waiting: tuple[WaitingView, ...]
    waiting_tokens: int
    replicas: tuple[ReplicaView, ...]
    running: tuple[RunningView, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def num_running(self) -> int:
        return sum(len(replica.running) for replica in self.replicas)


def take_snapshot(
    queue: WaitingQueue, fleet: Fleet, leases: Iterable[Lease], traffic: Traffic, now_s: float
) -> QueueSnapshot:
    return QueueSnapshot(
        policy=queue.policy,
        waiting=_waiting_views(queue, fleet, now_s),
        waiting_tokens=queue.num_tokens,
        replicas=tuple(_replica_view(replica) for replica in fleet),
        running=tuple(view for lease in leases if (view := _running_view(lease)) is not None),
        traffic=traffic,
    )


def _running_view(lease: Lease) -> RunningView | None:
    if lease.queued is None:
        return None
    ticket = lease.queued.ticket
    return RunningView(lease.lease_id, ticket.service_class, lease.queued.stamp.priority, ticket.need.expected)


def _waiting_views(queue: WaitingQueue, fleet: Fleet, now_s: float) -> tuple[WaitingView, ...]:
    head = queue.peek()
    head_reason = WaitReason.READY if head is None else fleet.wait_reason(head.ticket.need)
    views = []
    for queued in queue:
        own_reason = fleet.wait_reason(queued.ticket.need)
        bypassed = own_reason is WaitReason.READY and head_reason is not WaitReason.READY
        views.append(
            WaitingView(
                request_id=queued.ticket.request_id,
                lease_id=queued.lease_id,
                service_class=queued.ticket.service_class,
                tenant=queued.ticket.tenant,
                priority=queued.stamp.priority,
                key=queue.policy.key(queued.stamp),
                waited_s=max(0.0, now_s - queued.stamp.arrival_s),
                num_prompt_tokens=queued.ticket.num_prompt_tokens,
                why=WaitReason.BEHIND_HEAD if bypassed else own_reason,
                expected_tokens=queued.ticket.need.expected,
            )
        )
    return tuple(views)


def _replica_view(replica: Replica) -> ReplicaView:
    return ReplicaView(
        replica_id=replica.state.replica_id,
        running=tuple(replica.held),
        max_num_seqs=replica.state.max_num_seqs,
        reserved_tokens=replica.num_reserved_tokens,
        kv_tokens=replica.state.kv_tokens,
        quarantined=replica.quarantined,
        started_in_s=replica.state.started_in_s,
    )
