"""Owns who asks: from API key to tenant. Knows nothing of what is asked for.

Keys are looked up by their digest and never compared: how long that takes says nothing of how much of a key was right.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.errors import ApiError
from deployments.tenant_keys import account_of, digest_of
from deployments.user_config import IngressUserConfig


@dataclass(frozen=True, slots=True)
class Tenant:
    """max_priority: the most that the tenant may ask for. account: whom its key's quota is counted for."""

    name: str = "default"
    max_priority: float = 100.0
    account: str | None = None


EVERYONE = Tenant()


def tenant_of(authorization: str | None, settings: IngressUserConfig) -> Tenant:
    """The tenant whose key the `Authorization` header bears; with no tenants configured, everyone is `default`.

    Raises:
        ApiError: 401, no key or one that nobody holds.
    """
    if not settings.tenants:
        return EVERYONE
    scheme, _, rest = (authorization or "").partition(" ")
    key = rest.strip(" \t").encode("latin-1")  # the bytes that came: whatever they are, a header is read as Latin-1
    if scheme.lower() != "bearer" or not key:
        raise _unauthorised("No API key was given; send it as 'Authorization: Bearer KEY'.")
    digest = digest_of(key)
    found = settings.tenants_by_digest.get(digest)
    if found is None:
        raise _unauthorised("The API key is not one of this service's.")
    return Tenant(found.name, found.max_priority, None if found.quota is None else account_of(digest))


def _unauthorised(message: str) -> ApiError:
    return ApiError(401, message, type="authentication_error", code="invalid_api_key")
