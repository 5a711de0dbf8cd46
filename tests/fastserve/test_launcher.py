from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from rich.console import Console

from deployments.ending import FOLDER_VARIABLE
from fastserve.launcher import Expected, LaunchError, ServiceAddress, connections_for, launch
from tests.fastserve.launching import launched

ENDS_WITHIN_S = 30
REPLICA_HTTP_PORTS = range(20_000, 31_000)


@pytest.mark.service
@pytest.mark.timeout(240)
def test_sigterm_ends_every_process_within_30_seconds_even_with_a_request_in_flight(tmp_path: Path) -> None:
    with launched(tmp_path, "build") as service:
        ready = service.line_with("ready after")
        family = service.family()
        assert service.base_url in ready
        run_folder = _run_folder(family)
        assert run_folder.is_dir()
        assert _addresses_of_replicas(family) == {"127.0.0.1"}
        assert set(_scheduling_policies(family)) == {os.SCHED_BATCH}
        with socket.create_connection(("127.0.0.1", httpx.URL(service.base_url).port or 0)) as client:
            client.sendall(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n")
            service.process.send_signal(signal.SIGTERM)

            assert service.process.wait(ENDS_WITHIN_S) == 0

    _, alive = psutil.wait_procs(family, timeout=1)
    assert alive == []
    assert not run_folder.exists()


@pytest.mark.service
@pytest.mark.timeout(240)
@pytest.mark.parametrize("auth_mode", ["disabled", "token"])
def test_an_application_that_cannot_be_built_ends_the_launcher_with_the_reason(tmp_path: Path, auth_mode: str) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    environment = {"RAY_AUTH_MODE": auth_mode, "RAY_AUTH_TOKEN_PATH": str(token)}
    with launched(tmp_path, "build_broken", environment) as service:
        assert "no weights in the cupboard" in service.line_with("no weights in the cupboard")
        assert service.process.wait(ENDS_WITHIN_S * 2) == 1


def test_a_port_that_is_taken_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LaunchError, match=f"port {port} is taken"):
            launch(tmp_path / "none.yaml", Expected(ServiceAddress("127.0.0.1", port), 1), threading.Event(), Console())


def test_all_requests_that_may_be_open_have_a_connection_and_idle_clients_as_far_as_files_allow() -> None:
    assert connections_for(1_088, 1_000_000) == 1_088 + 3_000
    assert connections_for(1_088, 4_096) == 1_548
    with pytest.raises(LaunchError, match=r"1088 requests that wait or run need 3176 open files, and 3175 are allowed"):
        connections_for(1_088, 3_175)


def test_a_service_for_the_whole_network_is_asked_on_loopback() -> None:
    assert ServiceAddress("0.0.0.0", 8000).base_url == "http://127.0.0.1:8000"


def test_the_end_of_standard_input_sets_stop() -> None:
    script = (
        "import sys, threading; from fastserve.launcher import stop_when_input_ends\n"
        "stop = threading.Event(); stop_when_input_ends(stop); sys.exit(0 if stop.wait(60) else 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    process.communicate(timeout=90)

    assert process.returncode == 0


def test_a_process_that_watches_its_standard_input_ends_cleanly_while_that_is_open() -> None:
    script = (
        "import threading; from pathlib import Path; from fastserve.launcher import stop_when_input_ends\n"
        "stop_when_input_ends(threading.Event())\n"
        "(watch,) = (thread for thread in threading.enumerate() if thread.name == 'parent-watch')\n"
        "state = Path(f'/proc/self/task/{watch.native_id}/syscall')\n"
        "while not state.read_text().startswith('0 '): pass\n"  # 0 is read
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process:
        said = process.stderr.read()
        assert process.wait(90) == 0, said


def _run_folder(family: list[psutil.Process]) -> Path:
    """The launcher's own, which what it starts is told of."""
    for process in family:
        with suppress(psutil.NoSuchProcess):
            if "fastserve.local_ray" in process.cmdline():
                return Path(process.environ()[FOLDER_VARIABLE]).parent
    raise AssertionError("Ray and Serve do not run")


def _scheduling_policies(family: list[psutil.Process]) -> Iterator[int]:
    """Of the processes that are still there: a helper of Ray's start may have ended by itself."""
    for process in family:
        with suppress(ProcessLookupError):
            yield os.sched_getscheduler(process.pid)


def _addresses_of_replicas(family: list[psutil.Process]) -> set[str]:
    """Where the replicas' own HTTP servers listen: past HAProxy there is no bound and no key."""
    addresses = set()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            listening = (c.laddr for c in process.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN)
            addresses |= {address.ip for address in listening if address.port in REPLICA_HTTP_PORTS}
    return addresses
