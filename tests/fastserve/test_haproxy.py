from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from fastserve.haproxy import HEADERS_WITHIN_S, VANISHED_AFTER_S, find_haproxy, write_wrapper
from fastserve.ports import free_port
from tests.chaos.hosts import hosts


def test_the_script_adds_the_flag_the_time_for_headers_and_our_errors_and_passes_every_argument_on(
    tmp_path: Path,
) -> None:
    binary = tmp_path / "a binary"
    binary.write_text('#!/bin/sh\nfor argument in "$@"; do echo "$argument"; done\n')
    binary.chmod(0o700)

    script = write_wrapper(binary, tmp_path)

    (tmp_path / "one file.cfg").write_text("global\ndefaults\n    mode http\n    errorfile 503 rays\n")

    said = subprocess.run(
        [script, "-f", "one file.cfg"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=30
    ).stdout
    assert said.splitlines() == ["-dS", "-f", "one file.cfg"]
    lines = (tmp_path / "one file.cfg").read_text().splitlines()
    errors = [f'    errorfile {status} "{tmp_path / str(status)}.http"' for status in (500, 502, 503, 504)]
    assert lines[:3] == ["global", "defaults", "    timeout http-request 30s"]
    assert lines[-5:] == [*errors, "    mode http"]


SILENT_SERVER = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("listening", flush=True)
connection, _ = server.accept()
print(connection.recv(1000), flush=True)
server.accept()
"""


@contextmanager
def haproxy_of(folder: Path, config: str, headers_within_s: int = HEADERS_WITHIN_S) -> Iterator[None]:
    """HAProxy as Ray runs it, through our script."""
    binary = find_haproxy()
    assert binary is not None
    script = write_wrapper(binary, folder, headers_within_s)
    (folder / "haproxy.cfg").write_text(config)
    command = [str(script), "-f", str(folder / "haproxy.cfg")]
    subprocess.run([*command, "-c"], check=True, timeout=30)
    with subprocess.Popen([*command, "-db"]) as process:
        try:
            yield
        finally:
            process.terminate()


def connected(port: int) -> socket.socket:
    """A connection as soon as somebody listens; the test's own timeout is the bound."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        except ConnectionRefusedError:
            continue


def test_headers_that_never_end_are_refused_in_time(tmp_path: Path) -> None:
    port = free_port()
    config = f"defaults\n    mode http\n    timeout client 300s\nfrontend f\n    bind 127.0.0.1:{port}\n"
    with haproxy_of(tmp_path, config, headers_within_s=1), connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")

        assert client.recv(100).startswith((b"HTTP/1.0 408 ", b"HTTP/1.1 408 "))


@pytest.mark.parametrize("header", [b"x-request-id", b"X-Session-Id", b"serve_multiplexed_model_id"])
@pytest.mark.parametrize(("value", "is_passed_on"), [(b"mine-1 ~", True), (b"mine-\xff", False), (b"\xc3\xa9", False)])
def test_a_header_that_serve_could_not_read_does_not_reach_it(
    tmp_path: Path, header: bytes, value: bytes, is_passed_on: bool
) -> None:
    port, server = free_port(), socket.create_server(("127.0.0.1", 0))
    timeouts = "timeout client 30s\n    timeout server 30s\n    timeout connect 30s"
    config = (
        f"defaults\n    mode http\n    {timeouts}\nfrontend http_frontend\n    bind 127.0.0.1:{port}\n"
        f"    default_backend b\nbackend b\n    server s 127.0.0.1:{server.getsockname()[1]}\n"
    )
    server.settimeout(30)
    with server, haproxy_of(tmp_path, config), connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + header + b": " + value + b"\r\nx-other: \xff\r\n\r\n")
        connection, _ = server.accept()
        with connection:
            received = connection.recv(1000)
    assert b"x-other: \xff" in received
    assert (header.lower() in received) == is_passed_on


def test_where_no_ingress_answers_the_proxy_does_in_the_same_shape(tmp_path: Path) -> None:
    port = free_port()
    config = (
        "defaults\n    mode http\n    timeout client 300s\n    timeout connect 1s\n    timeout server 1s\n"
        f"frontend f\n    bind 127.0.0.1:{port}\n    default_backend b\nbackend b\n    errorfile 503 rays\n"
    )
    with haproxy_of(tmp_path, config):
        connected(port).close()
        answer = httpx.get(f"http://127.0.0.1:{port}", timeout=30)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == "ingress_unavailable"


def test_who_waits_for_a_host_that_has_vanished_hears_of_it(tmp_path: Path) -> None:
    with hosts() as two:
        if two.cable is None:
            pytest.skip("network namespaces need root and iproute2")
        port, server_port = free_port(), free_port()
        config = (
            "defaults\n    mode http\n    timeout client 300s\n    timeout connect 5s\n    timeout server 300s\n"
            f"frontend f\n    bind 127.0.0.1:{port}\n    default_backend b\n"
            f"backend b\n    server s {two.second_address}:{server_port}\n"
        )
        with (
            haproxy_of(tmp_path, config),
            subprocess.Popen([*two.prefix, sys.executable, "-c", SILENT_SERVER, str(server_port)], stdout=-1) as server,
            connected(port) as client,
        ):
            assert server.stdout is not None
            try:
                server.stdout.readline()  # it listens
                client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                server.stdout.readline()  # it has been asked
                two.cut()
                client.settimeout(4 * VANISHED_AFTER_S)
                assert client.recv(100).split()[1] in (b"502", b"503")
            finally:
                server.kill()


def test_the_time_for_headers_is_set_where_rays_own_setting_would_win(tmp_path: Path) -> None:
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    before, _, after = HAPROXY_CONFIG_TEMPLATE.partition("\ndefaults\n")
    assert before
    assert "timeout http-request" in after
    assert "\nfrontend http_frontend\n" in after


def test_the_haproxy_that_ray_brings_knows_the_flag() -> None:
    binary = find_haproxy()
    assert binary is not None

    said = subprocess.run([binary, "-h"], check=False, capture_output=True, text=True, timeout=30)

    assert "-dS disables splice usage" in said.stdout + said.stderr
