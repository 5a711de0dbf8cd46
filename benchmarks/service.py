"""Starts the service that is measured, as an operator would, and ends all of it. Knows nothing of loads."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.guarded import Guarded
from fastserve.errors import ServerFailed
from fastserve.ports import LOOPBACK, free_port

_POLL_S = 0.1
_STOP_WITHIN_S = 40.0  # the launcher takes at most 30 to end everything
_LOG_LINES = 20


@dataclass(frozen=True, slots=True)
class RunningService:
    """started_s: when its command was given, by `time.perf_counter`. log: what it prints."""

    base_url: str
    started_s: float
    log: Path


@contextlib.contextmanager
def shipped_service(document: dict[str, Any], ready_within_s: float) -> Iterator[RunningService]:
    """`fastserve serve` with this configuration, on a free port of the loopback.

    Raises:
        ServerFailed: it ended by itself, or was not ready in time; with the end of its log.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as name:
        config, log = Path(name) / "serve_config.yaml", Path(name) / "service.log"
        config.write_text(yaml.safe_dump(on_port(document, port)))
        with running_service(serve_command(config), f"http://{LOOPBACK}:{port}", log, ready_within_s) as service:
            yield service


def application(model: dict[str, object], deployments: list[dict[str, Any]]) -> dict[str, Any]:
    """A configuration that serves one model. deployments: Serve's own settings of the ingress and of the model."""
    return {
        "applications": [
            {
                "name": "fastserve",
                "route_prefix": "/",
                "import_path": "deployments.app:build",
                "args": {"models": [model]},
                "deployments": deployments,
            }
        ]
    }


def on_port(document: dict[str, Any], port: int) -> dict[str, Any]:
    """The same configuration, but for where HTTP is served."""
    return {**document, "http_options": {**document.get("http_options", {}), "host": LOOPBACK, "port": port}}


def serve_command(config: Path) -> list[str]:
    """It holds our end of a pipe as its input: if this process dies without a word, the service ends too."""
    return [sys.executable, "-m", "fastserve.cli", "serve", str(config), "--until-input-ends"]


@contextlib.contextmanager
def running_service(
    command: Sequence[str],
    base_url: str,
    log: Path,
    ready_within_s: float,
    ready_path: str = "/readyz",
    environment: Mapping[str, str] | None = None,
) -> Iterator[RunningService]:
    """What `command` serves at `base_url`, from when `ready_path` answers 200; its output goes to `log`.

    environment: of the command; this process's own unless given.

    Raises:
        ServerFailed: see `shipped_service`.
    """
    with log.open("wb") as output:
        service = Guarded(
            command, stdout=output, stderr=subprocess.STDOUT, grace_s=_STOP_WITHIN_S, environment=environment
        )
    started_s = time.perf_counter()
    try:
        _wait_until_ready(service.process, base_url + ready_path, log, started_s + ready_within_s)
        yield RunningService(base_url, started_s, log)
    finally:
        service.end()


def _wait_until_ready(process: subprocess.Popen[str], ready_url: str, log: Path, deadline_s: float) -> None:
    with httpx.Client(timeout=2) as http:
        while not _is_ready(http, ready_url):
            if process.poll() is not None:
                raise ServerFailed(f"the service ended with {process.returncode}:\n{_end_of(log)}")
            if time.perf_counter() > deadline_s:
                raise ServerFailed(f"the service was not ready in time:\n{_end_of(log)}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)


def _is_ready(http: httpx.Client, ready_url: str) -> bool:
    """As `fastserve.readiness.is_ready`, over one client: making one costs enough to slow the start that is timed."""
    try:
        return http.get(ready_url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
