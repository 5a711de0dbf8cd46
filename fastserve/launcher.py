"""Owns the service's processes from start to end: Ray Serve as a child, a word when it is ready, nothing left behind.

Knows nothing of requests. What a plain `serve run` would do is done by Ray itself; this adds the environment, checks
before the start, and an end within 30 seconds.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from deployments.ending import ANSWERS_WITHIN_S, FOLDER_VARIABLE, LOOK_EVERY_S, EndingFolder
from fastserve.errors import FastServeError
from fastserve.haproxy import find_haproxy, write_wrapper
from fastserve.ports import LOOPBACK, PortRange, claimed_range, free_port, is_taken
from fastserve.process_tree import adopt_orphans, end_descendants, reap_orphans
from fastserve.ray_environment import HAProxy, ray_environment
from fastserve.readiness import is_ready, why_failed
from fastserve.service_watch import watch
from fastserve.start_watch import StartOutcome

DASHBOARD_PORT = 8265
_MORE_S = 2.0  # than the ingresses give themselves
_ENDS_WITHIN_S = 8.0  # Serve, which has nothing left to answer
_MAX_OPEN_FILES = 1_048_576
_FILES_PER_CONNECTION = 2  # HAProxy's two ends
_OTHER_FILES = 1_000
_IDLE_CONNECTIONS = 3_000  # of clients that ask nothing now: they must not take the places of those that ask
_SHORT_FOLDER = "/tmp"  # Ray adds 56 characters and HAProxy 20 to the path of a socket, which may have 107


class LaunchError(FastServeError):
    """The service cannot be started on this machine now; one line that says why. For the operator."""


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Where HTTP is served."""

    host: str
    port: int

    @property
    def base_url(self) -> str:
        host = LOOPBACK if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What those outside may expect. max_open_requests: as many as may wait or run at the same time."""

    address: ServiceAddress
    max_open_requests: int


def launch(config: Path, expected: Expected, stop: threading.Event, console: Console) -> int:
    """Serves `config` until `stop` is set or the service ends by itself; returns the exit status.

    Raises:
        LaunchError: the HTTP port is taken, or so many requests need more files than this user may open.
    """
    address = expected.address
    if is_taken(address.port):
        raise LaunchError(f"port {address.port} is taken: stop what listens there, or change http_options.port")
    adopt_orphans()
    max_connections = connections_for(expected.max_open_requests, _allow_many_files())
    dashboard_port = free_port(DASHBOARD_PORT)
    with _serving(config, dashboard_port, max_connections) as service:
        dashboard_url = f"http://{LOOPBACK}:{dashboard_port}"
        ready = f"{address.base_url}/v1 (OpenAI API), dashboard {dashboard_url}"
        look = partial(_look, service, address, dashboard_url)
        return watch(service.process, look, ready, stop, console, partial(reap_orphans, service.process.pid))


@dataclass(frozen=True, slots=True)
class _Serving:
    """Ray and Serve, and the environment that they were started with."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]


@contextlib.contextmanager
def _serving(config: Path, dashboard_port: int, max_connections: int) -> Iterator[_Serving]:
    """Ray and Serve as a child, in a process group of its own: the terminal's Ctrl-C is ours to pass on."""
    with tempfile.TemporaryDirectory(prefix="fs-", dir=_SHORT_FOLDER) as run_folder, claimed_range() as replica_ports:
        haproxy = _haproxy(Path(run_folder), replica_ports, max_connections)
        environment = ray_environment(os.environ, Path(run_folder), haproxy)
        ending = EndingFolder(Path(environment[FOLDER_VARIABLE]))
        ending.path.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "fastserve.local_ray", str(config), str(dashboard_port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield _Serving(process, environment)
        finally:
            _let_answer(ending)
            _end(process)
            end_descendants()


def _haproxy(run_folder: Path, replica_ports: PortRange | None, max_connections: int) -> HAProxy | None:
    binary = find_haproxy()
    if binary is None:
        return None
    script = write_wrapper(binary, run_folder)
    return HAProxy(script, max_connections, free_port(9101), free_port(8404), replica_ports)


def _look(service: _Serving, address: ServiceAddress, dashboard_url: str) -> StartOutcome | None:
    if reason := why_failed(dashboard_url, service.environment):
        return StartOutcome(failure=reason)
    return StartOutcome() if is_ready(address.base_url) else None


def _let_answer(ending: EndingFolder) -> None:
    """Until every ingress has answered what it was asked: each sees to it that this does not take for ever."""
    ending.announce()
    deadline = time.monotonic() + ANSWERS_WITHIN_S + _MORE_S
    while ending.at_work() and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """What of Serve does not end in time is ended with the rest."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDS_WITHIN_S)


def _allow_many_files() -> int:
    """Raises the soft limit on open files, 1,024 in many places, as far as it may go; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def connections_for(max_open_requests: int, max_files: int) -> int:
    """How many clients HAProxy lets in: all that may wait or run, and idle ones as far as open files allow.

    Raises:
        LaunchError: not even those that may wait or run fit. HAProxy would end, or queue in front of our queue.
    """
    room = (max_files - _OTHER_FILES) // _FILES_PER_CONNECTION
    if room < max_open_requests:
        needed = max_open_requests * _FILES_PER_CONNECTION + _OTHER_FILES
        raise LaunchError(
            f"{max_open_requests} requests that wait or run need {needed} open files, and {max_files} are allowed: "
            "lower bounds.max_waiting, or raise the hard limit (ulimit -Hn)"
        )
    return min(max_open_requests + _IDLE_CONNECTIONS, room)


def stop_on_signals(stop: threading.Event) -> None:
    """SIGINT, SIGTERM and SIGHUP set `stop`. Ask once: the end takes at most 30 seconds by itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())


def stop_when_input_ends(stop: threading.Event) -> None:
    """For a parent that holds our standard input: when it dies, however it dies, we stop too.

    Reads past Python's buffer: a thread that held its lock at our end would abort the interpreter.
    """
    descriptor = sys.stdin.fileno()

    def wait() -> None:
        while os.read(descriptor, 1):
            continue
        stop.set()

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
