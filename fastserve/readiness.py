"""Owns finding out from outside how far a service has come: ready, on its way, or failed. Starts and stops nothing."""

from __future__ import annotations

import httpx

_TIMEOUT_S = 2.0
_DASHBOARD_TIMEOUT_S = 10.0  # its first answer has to load Serve, on a machine that is busy starting it


def is_ready(base_url: str) -> bool:
    """Whether a request would be accepted now."""
    try:
        return httpx.get(f"{base_url}/readyz", timeout=_TIMEOUT_S).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def why_failed(dashboard_url: str) -> str | None:
    """Serve's own reason why an application cannot be deployed; None while there is none, or no dashboard yet."""
    try:
        answer = httpx.get(f"{dashboard_url}/api/serve/applications/", timeout=_DASHBOARD_TIMEOUT_S)
        applications = answer.raise_for_status().json()["applications"].values()
    except (httpx.HTTPError, ValueError):
        return None
    messages = [application["message"] for application in applications if application["status"] == "DEPLOY_FAILED"]
    return "\n".join(messages) or None
