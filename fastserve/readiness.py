"""Owns finding out from outside how far a service has come: ready, on its way, or failed. Starts and stops nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

_TIMEOUT_S = 2.0
# A dashboard that is only just starting, or is none, may answer with any JSON, or with no JSON at all.
_SAYS_NOTHING = (ValueError, LookupError, TypeError, AttributeError)
_DASHBOARD_TIMEOUT_S = 10.0  # its first answer has to load Serve, on a machine that is busy starting it


def is_ready(base_url: str) -> bool:
    """Whether a request would be accepted now."""
    try:
        return httpx.get(f"{base_url}/readyz", timeout=_TIMEOUT_S).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def why_failed(dashboard_url: str, environment: Mapping[str, str]) -> str | None:
    """Serve's own reason why an application cannot be deployed; None while there is none, or no dashboard that tells.

    environment: what Ray was started with, which says whether the dashboard asks for a token.
    """
    headers = dashboard_headers(environment)
    try:
        answer = httpx.get(f"{dashboard_url}/api/serve/applications/", timeout=_DASHBOARD_TIMEOUT_S, headers=headers)
        applications = answer.raise_for_status().json()["applications"].values()
        messages = [application["message"] for application in applications if application["status"] == "DEPLOY_FAILED"]
    except (httpx.HTTPError, *_SAYS_NOTHING):
        return None
    return "\n".join(messages) or None


def dashboard_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """The token, looked for where Ray documents it; nothing where Ray asks for none, or has not made it yet."""
    if environment.get("RAY_AUTH_MODE", "").lower() != "token":
        return {}
    token = environment.get("RAY_AUTH_TOKEN") or _token_in_file(environment)
    return {"authorization": f"Bearer {token}"} if token else {}


def _token_in_file(environment: Mapping[str, str]) -> str:
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip()
    except OSError:
        return ""
