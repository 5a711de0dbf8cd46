"""Starts the real service as an operator would, in a process group of its own, and ends all of it. No pytest here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
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
COMMANDS = Path(sys.executable).parent
RAY_TOKEN = secrets.token_hex(32)  # of the clusters that this process starts; not the one in the home folder
_JSON_LINE = re.compile(r"\{.*\}")
# Both take another port than Ray's usual one when that is taken.
_DASHBOARD_OF_LAUNCHER = re.compile(r"^ready after .* dashboard (http://\S+)$", re.MULTILINE)
_DASHBOARD_OF_RAY = re.compile(r"View the dashboard at [^h\n]*(http://[\w.:]+)")  # colours stand between


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: what it was started with, where it is, and the process that started it."""

    config: dict[str, Any]
    base_url: str
    dashboard_url: str
    process: subprocess.Popen[bytes]
    log: Path

    def serve_actors(self) -> list[dict[str, Any]]:
        """Serve's own account of its applications, from the dashboard's API."""
        applications: dict[str, Any] = self._dashboard("GET").raise_for_status().json()["applications"]
        return [applications[name] for name in sorted(applications)]

    def deploy(self, config: dict[str, Any]) -> None:
        """What `serve deploy` does. Returns when Serve has taken the file, not when all of it is in force."""
        self._dashboard("PUT", config).raise_for_status()

    def running_replicas(self) -> dict[str, list[dict[str, Any]]]:
        """Serve's account of each deployment's running replicas."""
        [application] = self.serve_actors()
        return {
            name: [replica for replica in deployment["replicas"] if replica["state"] == "RUNNING"]
            for name, deployment in application["deployments"].items()
        }

    def replica_ids(self) -> dict[str, set[str]]:
        """The ids of each deployment's running replicas, as `x-fastserve-replica` names them."""
        return {name: {one["replica_id"] for one in replicas} for name, replicas in self.running_replicas().items()}

    def ingress_urls(self) -> list[str]:
        """Where each ingress replica itself answers, without HAProxy in front."""
        return [_http_url(replica["pid"]) for replica in self.running_replicas()["Ingress"]]

    async def json_lines(self, event: str) -> list[dict[str, Any]]:
        """The JSON lines of one event that the service has printed so far."""
        text = await asyncio.to_thread(self.log.read_text, errors="replace")
        found = (_JSON_LINE.search(line) for line in text.splitlines() if f'"event":"{event}"' in line)
        return [json.loads(match[0]) for match in found if match is not None]

    def rank_processes(self) -> list[psutil.Process]:
        """The rank actors of this service, by the title that Ray gives them."""
        return [child for child in descendants(self.process.pid) if _is_rank(child)]

    def replica_processes(self, deployment: str) -> list[psutil.Process]:
        """The processes of a deployment's running replicas."""
        return [psutil.Process(replica["pid"]) for replica in self.running_replicas()[deployment]]

    def _dashboard(self, method: str, document: dict[str, Any] | None = None) -> httpx.Response:
        """Asks Serve's REST API, with the token that Ray was started with: a plain `serve run` wants it."""
        headers = {"authorization": f"Bearer {RAY_TOKEN}"}
        url = f"{self.dashboard_url}/api/serve/applications/"
        return httpx.request(method, url, json=document, headers=headers, timeout=30)


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
    """`fastserve serve`, or with `plain` Ray's own `serve run` without any of the launcher's settings.

    Raises:
        AssertionError: it was not ready in time; or the launcher did not end well, or left processes.
    """
    with tempfile.TemporaryDirectory(prefix="fastserve-test-") as folder:
        path = Path(folder) / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config))
        log = Path(folder) / "service.log"
        command = ["serve", "run", str(path)] if plain else ["fastserve", "serve", str(path)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(COMMANDS / command[0]), *command[1:]],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment() | (_temporary_files_in(folder) if plain else {}),
            )
            base_url = f"http://127.0.0.1:{config['http_options']['port']}"
            dashboard_in = _DASHBOARD_OF_RAY if plain else _DASHBOARD_OF_LAUNCHER
            try:
                dashboard_url = wait_until_ready(process, log, base_url, dashboard_in)
                yield Service(config, base_url, dashboard_url, process, log)
            finally:
                killed = end(process)
            ended = f"the launcher ended with {process.returncode}, and these had to be killed: {killed}"
            assert plain or (process.returncode, killed) == (0, []), f"{ended}\n{tail(log)}"


def _environment() -> dict[str, str]:
    """As in an activated environment, and whoever runs the tests may have switched Ray's token authentication on."""
    given = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    ours = {"PATH": f"{COMMANDS}{os.pathsep}{given['PATH']}", "RAY_DEDUP_LOGS": "0", "RAY_AUTH_TOKEN": RAY_TOKEN}
    return given | ours


def _temporary_files_in(folder: str) -> dict[str, str]:
    """What the launcher does too: Ray's dashboard leaves a folder behind wherever it ends."""
    return {"TMPDIR": folder, "RAY_TMPDIR": os.environ.get("TMPDIR", "/tmp")}


def wait_until_ready(process: subprocess.Popen[bytes], log: Path, base_url: str, dashboard_in: re.Pattern[str]) -> str:
    """Until `/readyz` says 200 and the log names the dashboard, whose URL is returned.

    Raises:
        AssertionError: the service ended, or was not ready in time; with the end of its log.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the service ended with {process.returncode}:\n{tail(log)}")
        with contextlib.suppress(httpx.TransportError):
            is_ready = httpx.get(f"{base_url}/readyz", timeout=5).status_code == 200
            if is_ready and (said := dashboard_in.search(log.read_text(errors="replace"))):
                return said[1]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.3)
    raise AssertionError(f"not ready within {READY_WITHIN_S} s:\n{tail(log)}")


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


def addresses_of(pid: int, port: int | None) -> set[str]:
    """Where the descendants of a process listen on this port."""
    found = set()
    for process in descendants(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            listening = [one.laddr for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
            found |= {address.ip for address in listening if address.port == port}
    return found


def shared_memory_segments() -> set[str]:
    """Shared memory of ranks, anybody's, that still has a name: it loses that as soon as all have mapped it."""
    return {str(path) for path in Path("/dev/shm").glob("deepspeed*")}


def tail(log: Path, num_lines: int = 60) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-num_lines:])


def _http_url(pid: int) -> str:
    """The one address of a process at which HTTP is answered."""
    ports = sorted(
        connection.laddr.port
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    )
    [url] = [url for port in ports if _answers(url := f"http://127.0.0.1:{port}")]
    return url


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    return False


def _is_rank(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        command = process.cmdline()
        return bool(command) and command[0].startswith("ray::Rank")
    return False
