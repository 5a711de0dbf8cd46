"""Starts the real service as an operator would, in a process group of its own, and ends all of it. No pytest here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 240
GONE_WITHIN_S = 40
_JSON_LINE = re.compile(r"\{.*\}")


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: where it is, and the process that started it."""

    base_url: str
    dashboard_url: str
    process: subprocess.Popen[bytes]
    log: Path

    def serve_actors(self) -> list[dict[str, Any]]:
        """Serve's own account of its applications, from the dashboard's API."""
        answer = httpx.get(f"{self.dashboard_url}/api/serve/applications/", timeout=30)
        answer.raise_for_status()
        applications: dict[str, Any] = answer.json()["applications"]
        return [applications[name] for name in sorted(applications)]

    def num_running_replicas(self, deployment: str) -> int:
        replicas = self.serve_actors()[0]["deployments"][deployment]["replicas"]
        return sum(replica["state"] == "RUNNING" for replica in replicas)

    async def json_lines(self, event: str) -> list[dict[str, Any]]:
        """The JSON lines of one event that the service has printed so far."""
        text = await asyncio.to_thread(self.log.read_text, errors="replace")
        found = (_JSON_LINE.search(line) for line in text.splitlines() if f'"event":"{event}"' in line)
        return [json.loads(match[0]) for match in found if match is not None]

    def rank_processes(self) -> list[psutil.Process]:
        """The rank actors of this service, by the title that Ray gives them."""
        return [child for child in descendants(self.process.pid) if _is_rank(child)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve_config(model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole serve_config with one model; `changes` are merged into its parts.

    num_ingress, autoscaling (of the model deployment), num_replicas, user_config.
    """
    ingress: dict[str, Any] = {
        "name": "Ingress",
        "num_replicas": changes.get("num_ingress", 1),
        "ray_actor_options": {"num_cpus": 0.1},
        "user_config": changes.get("user_config", {}),
    }
    deployment: dict[str, Any] = {"name": model["name"]}
    if "autoscaling" in changes:
        deployment["autoscaling_config"] = changes["autoscaling"]
    else:
        deployment["num_replicas"] = changes.get("num_replicas", 1)
    application = {
        "name": "fastserve",
        "route_prefix": "/",
        "import_path": "deployments.app:build",
        "args": {"models": [model]},
        "deployments": [ingress, deployment],
    }
    port = changes.get("port") or free_port()
    return {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}


@contextlib.contextmanager
def running_service(config: dict[str, Any], *, plain: bool = False) -> Iterator[Service]:
    """`fastserve serve`, or with `plain` Ray's own `serve run` without any of the launcher's settings."""
    with tempfile.TemporaryDirectory(prefix="fastserve-test-") as folder:
        path = Path(folder) / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config))
        log = Path(folder) / "service.log"
        bin_folder = Path(sys.executable).parent
        command = ["serve", "run", str(path)] if plain else ["fastserve", "serve", str(path)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(bin_folder / command[0]), *command[1:]],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(bin_folder) | (_temporary_files_in(folder) if plain else {}),
            )
            port = config["http_options"]["port"]
            service = Service(f"http://127.0.0.1:{port}", "http://127.0.0.1:8265", process, log)
            try:
                wait_until_ready(service)
                yield service
            finally:
                end(process)


def _environment(bin_folder: Path) -> dict[str, str]:
    """As in an activated environment, and whoever runs the tests may have switched Ray's token authentication on."""
    given = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    return {**given, "PATH": f"{bin_folder}{os.pathsep}{given['PATH']}", "RAY_DEDUP_LOGS": "0"}


def _temporary_files_in(folder: str) -> dict[str, str]:
    """What the launcher does too: Ray's dashboard leaves a folder behind wherever it ends."""
    return {"TMPDIR": folder, "RAY_TMPDIR": os.environ.get("TMPDIR", "/tmp")}


def wait_until_ready(service: Service) -> None:
    """Until `/readyz` says 200.

    Raises:
        AssertionError: the service ended, or was not ready in time; with the end of its log.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            raise AssertionError(f"the service ended with {service.process.returncode}:\n{tail(service.log)}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{service.base_url}/readyz", timeout=5).status_code == 200:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(0.3)
    raise AssertionError(f"not ready within {READY_WITHIN_S} s:\n{tail(service.log)}")


def end(process: subprocess.Popen[bytes]) -> list[str]:
    """SIGTERM, as an operator would; what is still there after `GONE_WITHIN_S` is killed and named."""
    family = descendants(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GONE_WITHIN_S)
    family = {child.pid: child for child in [*family, *descendants(process.pid)]}.values()  # type: ignore[assignment]
    _, alive = psutil.wait_procs(list(family), timeout=5)
    names = []
    for child in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(" ".join(child.cmdline())[:120])
            child.kill()
    return names


def descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def tail(log: Path, num_lines: int = 60) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-num_lines:])


def _is_rank(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        command = process.cmdline()
        return bool(command) and command[0].startswith("ray::Rank")
    return False
