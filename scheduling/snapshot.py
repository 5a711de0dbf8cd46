"""Owns what operators may see of the queue: who waits, in order, and why; never a prompt. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from scheduling.fleet import Fleet
from scheduling.leases import Lease
from scheduling.queue import WaitingQueue
from scheduling.replicas import Replica, WaitReason
from scheduling.score import ScorePolicy
from scheduling.service_rate import ServiceRate
from scheduling.traffic import Traffic


@dataclass(frozen=True, slots=True)
class WaitingView:
    """One waiting ticket. predicted_wait_s: from now on, if nobody else came; None while nothing has been measured."""

    request_id: str
    lease_id: str
    service_class: str
    tenant: str
    priority: float
    key: float
    waited_s: float
    num_prompt_tokens: int
    why: WaitReason
    predicted_wait_s: float | None = None
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
    """The queue at one moment; `waiting` in the order in which it will run. `traffic`: since the queue began.

    tokens_per_s: what all replicas serve together while somebody waits, as last measured. replica_tokens_per_s: what
    one of them serves, in tokens as they are expected of requests.
    """

    policy: ScorePolicy
    waiting: tuple[WaitingView, ...]
    waiting_tokens: int
    replicas: tuple[ReplicaView, ...]
    tokens_per_s: float | None = None
    replica_tokens_per_s: float | None = None
    running: tuple[RunningView, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def num_running(self) -> int:
        return sum(len(replica.running) for replica in self.replicas)


def take_snapshot(
    queue: WaitingQueue, fleet: Fleet, leases: Iterable[Lease], rate: ServiceRate, traffic: Traffic, now_s: float
) -> QueueSnapshot:
    return QueueSnapshot(
        policy=queue.policy,
        waiting=_waiting_views(queue, fleet, rate.expected_tokens_per_s, now_s),
        waiting_tokens=queue.num_tokens,
        replicas=tuple(_replica_view(replica) for replica in fleet),
        tokens_per_s=rate.tokens_per_s,
        replica_tokens_per_s=rate.replica_expected_tokens_per_s,
        running=tuple(view for lease in leases if (view := _running_view(lease)) is not None),
        traffic=traffic,
    )


def _running_view(lease: Lease) -> RunningView | None:
    if lease.queued is None or lease.queued.parked_on is not None:
        return None  # one that gave way stands among those who wait
    ticket = lease.queued.ticket
    return RunningView(lease.lease_id, ticket.service_class, lease.queued.stamp.priority, ticket.need.expected)


def _waiting_views(
    queue: WaitingQueue, fleet: Fleet, tokens_per_s: float | None, now_s: float
) -> tuple[WaitingView, ...]:
    head = queue.peek()
    head_reason = WaitReason.READY if head is None else fleet.wait_reason(head.ticket.need)
    views = []
    num_tokens = 0
    for queued in queue:
        num_tokens += queued.ticket.need.expected
        own_reason = WaitReason.GAVE_WAY if queued.parked_on is not None else fleet.wait_reason(queued.ticket.need)
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
                predicted_wait_s=None if tokens_per_s is None else num_tokens / tokens_per_s,
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
