"""Changes the configuration of a service that runs, as `serve deploy` does. Knows nothing of what is measured."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.service import RunningService, on_port
from fastserve.errors import ServerFailed
from fastserve.readiness import dashboard_headers

_DASHBOARD = re.compile(r"dashboard (http://\S+)")
_APPLICATIONS = "/api/serve/applications/"
_IN_FORCE_WITHIN_S = 60.0
_LOOK_AGAIN_S = 0.2
_SAID_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """Serve's own face of a service that `fastserve serve` started. document: what it runs with."""

    dashboard_url: str
    document: dict[str, Any]

    @classmethod
    def of(cls, service: RunningService, document: dict[str, Any]) -> LiveConfig:
        """For a service that was started with `document`.

        Raises:
            ServerFailed: it has not said in time where its dashboard is.
        """
        port = urlsplit(service.base_url).port
        assert port is not None, "free_port gave it one"
        return cls(_dashboard_url(service.log), on_port(document, port))

    def set_user_config(self, user_config: dict[str, Any]) -> None:
        """Of the ingress. Returns when it is in force.

        Raises:
            ServerFailed: it was not taken, or is not in force in time.
        """
        with httpx.Client(base_url=self.dashboard_url, headers=dashboard_headers(os.environ), timeout=30) as http:
            try:
                http.put(_APPLICATIONS, json=with_user_config(self.document, user_config)).raise_for_status()
                self._wait_until_in_force(http, user_config)
            except httpx.HTTPError as error:
                raise ServerFailed(f"{self.dashboard_url}: {error}") from None

    def _wait_until_in_force(self, http: httpx.Client, user_config: dict[str, Any]) -> None:
        deadline_s = time.monotonic() + _IN_FORCE_WITHIN_S
        while time.monotonic() < deadline_s:
            if is_in_force(http.get(_APPLICATIONS).json(), user_config):
                return
            time.sleep(_LOOK_AGAIN_S)
        raise ServerFailed(f"{user_config} was not in force within {_IN_FORCE_WITHIN_S:g} s")


def _dashboard_url(log: Path) -> str:
    """Who asks the service itself may find it ready a moment before the command has said so."""
    deadline_s = time.monotonic() + _SAID_WITHIN_S
    while (found := _DASHBOARD.search(log.read_text(errors="replace"))) is None:
        if time.monotonic() > deadline_s:
            raise ServerFailed(f"the service has not said within {_SAID_WITHIN_S:g} s where its dashboard is")
        time.sleep(_LOOK_AGAIN_S)
    return found[1]


def with_user_config(document: dict[str, Any], user_config: dict[str, Any]) -> dict[str, Any]:
    """The same document, but for the ingress's settings."""
    [application] = document["applications"]
    deployments = [
        {**each, "user_config": user_config} if each["name"] == "Ingress" else each
        for each in application["deployments"]
    ]
    return {**document, "applications": [{**application, "deployments": deployments}]}


def is_in_force(told: dict[str, Any], user_config: dict[str, Any]) -> bool:
    """Whether Serve says so. told: what its REST API does."""
    [application] = told["applications"].values()
    ingress = application["deployments"].get("Ingress", {})
    given = ingress.get("deployment_config", {}).get("user_config")
    return bool(application["status"] == "RUNNING" and ingress.get("status") == "HEALTHY" and given == user_config)
