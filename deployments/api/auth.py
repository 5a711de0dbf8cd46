"""Owns who asks: from API key to tenant. Knows nothing of what is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from deployments.errors import ApiError
from deployments.user_config import TenantConfig

SHA256_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class Tenant:
    """max_priority: the most that the tenant may ask for."""

    name: str = "default"
    max_priority: float = 100.0


EVERYONE = Tenant()


def tenant_of(authorization: str | None, tenants: Mapping[str, TenantConfig]) -> Tenant:
    """The tenant whose key the `Authorization` header bears; with no tenants configured, everyone is `default`.

    Raises:
        ApiError: 401, no key or one that nobody holds.
    """
    if not tenants:
        return EVERYONE
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise _unauthorised("No API key was given; send it as 'Authorization: Bearer KEY'.")
    found = by_digest(tenants).get(_digest(key.strip()))
    if found is None:
        raise _unauthorised("The API key is not one of this service's.")
    return Tenant(found.name, found.max_priority)


def by_digest(tenants: Mapping[str, TenantConfig]) -> dict[str, TenantConfig]:
    """Tenants by their key's digest: a look-up by digest takes no time that depends on the key's characters."""
    return {_configured_digest(key): tenant for key, tenant in tenants.items()}


def _configured_digest(key: str) -> str:
    return key.removeprefix(SHA256_PREFIX).lower() if key.startswith(SHA256_PREFIX) else _digest(key)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _unauthorised(message: str) -> ApiError:
    return ApiError(401, message, type="authentication_error", code="invalid_api_key")
