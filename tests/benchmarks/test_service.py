"""Starting what is measured, and ending it: with a small service in the place of the real one."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.service import on_port, running_service, serve_command
from fastserve.errors import ServerFailed
from fastserve.ports import free_port, is_taken

READY_WITHIN_S = 30.0


def stub_command(port: int) -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.stub_completions", str(port)]


def test_a_service_is_ready_when_it_is_handed_over_and_gone_afterwards(tmp_path: Path) -> None:
    port = free_port()
    with running_service(stub_command(port), f"http://127.0.0.1:{port}", tmp_path / "log", READY_WITHIN_S) as service:
        assert httpx.get(f"{service.base_url}/readyz").status_code == 200

    assert not is_taken(port)


def test_a_service_is_ended_also_when_the_measurement_fails(tmp_path: Path) -> None:
    port = free_port()
    with (
        pytest.raises(ZeroDivisionError),
        running_service(stub_command(port), f"http://127.0.0.1:{port}", tmp_path / "log", READY_WITHIN_S),
    ):
        raise ZeroDivisionError

    assert not is_taken(port)


def test_a_service_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no model there')"]
    with (
        pytest.raises(ServerFailed, match=r"ended with 1:\nno model there"),
        running_service(command, f"http://127.0.0.1:{free_port()}", tmp_path / "log", READY_WITHIN_S),
    ):
        raise AssertionError("it was handed over")


def test_a_service_that_is_never_ready_is_given_up_and_ended(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    command = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    with (
        pytest.raises(ServerFailed, match="not ready in time"),
        running_service(command, f"http://127.0.0.1:{free_port()}", tmp_path / "log", 0.0),
    ):
        raise AssertionError("it was handed over")

    assert set(psutil.Process().children()) == before


def test_the_configuration_changes_only_in_where_it_listens() -> None:
    document = {"http_options": {"host": "0.0.0.0", "port": 8000, "keep_alive_timeout_s": 90}, "applications": []}

    assert on_port(document, 1234) == {
        "http_options": {"host": "127.0.0.1", "port": 1234, "keep_alive_timeout_s": 90},
        "applications": [],
    }
    assert document["http_options"] == {"host": "0.0.0.0", "port": 8000, "keep_alive_timeout_s": 90}


def test_the_service_ends_with_this_process() -> None:
    assert serve_command(Path("c.yaml"))[1:] == ["-m", "fastserve.cli", "serve", "c.yaml", "--until-input-ends"]
