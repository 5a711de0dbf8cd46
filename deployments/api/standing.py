"""Owns how important one request is: its priority, class and deadline, if its tenant may. Knows nothing of queues."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.api.auth import Tenant
from deployments.api.openai_schemas import GenerateParams, RequestFields
from deployments.errors import ApiError, invalid
from deployments.user_config import IngressUserConfig
from scheduling.score import Stamp


@dataclass(frozen=True, slots=True)
class Standing:
    """deadline_s: seconds from the arrival at the ingress within which the answer must start.

    account: whom the request is charged to; None where its key has no quota.
    """

    tenant: str
    priority: float
    service_class: str
    deadline_s: float | None = None
    account: str | None = None

    def provisional_stamp(self, now_unix_s: float) -> Stamp:
        """Where the request would stand if it were queued now: it orders work before the queue has stamped it."""
        return Stamp(self.priority, now_unix_s)


def standing_of(tenant: Tenant, settings: IngressUserConfig, fields: RequestFields | GenerateParams) -> Standing:
    """The standing that the request asks for. `priority` wins over `service_tier`.

    Raises:
        ApiError: 400 for an unknown service tier, 403 for more priority than the tenant has.
    """
    tier, deadline_ms = None, None
    if isinstance(fields, RequestFields):
        tier, deadline_ms = fields.service_tier, fields.deadline_ms
    priority = _tier_priority(tier, settings) if fields.priority is None else fields.priority
    if priority > tenant.max_priority:
        raise _too_important(tenant, priority, "service_tier" if fields.priority is None else "priority")
    deadline_s = None if deadline_ms is None else deadline_ms / 1000
    return Standing(tenant.name, priority, settings.class_of(priority), deadline_s, tenant.account)


def _tier_priority(tier: str | None, settings: IngressUserConfig) -> float:
    if tier is None:
        return 0.0
    if tier not in settings.tiers:
        known = ", ".join(sorted(settings.tiers))
        raise invalid(f"service_tier: got {tier[:80]!r}; expected one of {known}.", "service_tier", "invalid_value")
    return settings.tiers[tier]


def _too_important(tenant: Tenant, priority: float, param: str) -> ApiError:
    message = f"{param}: asks for priority {priority:g}; tenant {tenant.name!r} may ask for {tenant.max_priority:g}."
    return ApiError(403, message, type="permission_error", param=param, code="priority_not_allowed")
