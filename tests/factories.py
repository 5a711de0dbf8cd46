"""Builds what tests need, with defaults for all that a test does not care about. Knows nothing of any one test."""

from __future__ import annotations

from scheduling.admission import AdmissionBounds
from scheduling.dispatcher import Dispatcher, ReplicaState
from scheduling.quotas import QuotaClaim
from scheduling.request import Ticket
from scheduling.score import ScorePolicy, Stamp


def make_ticket(
    lease_id: str = "lease-1",
    *,
    priority: float = 0,
    num_prompt_tokens: int = 10,
    max_output_tokens: int = 10,
    deadline_s: float | None = None,
    stamp: Stamp | None = None,
    tenant: str = "default",
    service_class: str = "standard",
    content: str = "",
    request_id: str = "",
    prefixes: tuple[str, ...] = (),
    claim: QuotaClaim | None = None,
) -> Ticket:
    return Ticket(
        lease_id=lease_id,
        request_id=request_id or f"request-of-{lease_id}",
        priority=priority,
        num_prompt_tokens=num_prompt_tokens,
        max_output_tokens=max_output_tokens,
        deadline_s=deadline_s,
        stamp=stamp,
        tenant=tenant,
        service_class=service_class,
        content=content,
        prefixes=prefixes,
        claim=claim,
    )


def make_replica(
    replica_id: str = "replica-1",
    *,
    max_num_seqs: int = 4,
    kv_tokens: int = 10_000,
    max_model_len: int = 1_000,
    incarnation: int = 1,
    parked_limit: int = 0,
    preemption_margin_levels: float = 5.0,
) -> ReplicaState:
    return ReplicaState(
        replica_id, max_num_seqs, kv_tokens, max_model_len, incarnation, parked_limit, preemption_margin_levels
    )


def make_dispatcher(
    *replicas: ReplicaState,
    policy: ScorePolicy | None = None,
    bounds: AdmissionBounds | None = None,
    claim_timeout_s: float = 1.0,
) -> Dispatcher:
    """A dispatcher that knows `replicas`."""
    dispatcher = Dispatcher(policy or ScorePolicy(), bounds or AdmissionBounds(), claim_timeout_s=claim_timeout_s)
    for replica in replicas:
        dispatcher.register_replica(replica)
    return dispatcher
