"""Owns the service under chaos: Ray on two hosts, Serve with two replicas of two ranks behind two ingresses.

Starts it as an operator of a cluster would: `ray start` on each host, then `serve run`. Disturbs nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from fastserve.haproxy import find_haproxy, write_wrapper
from fastserve.ports import LOOPBACK, free_port
from fastserve.ray_environment import HAProxy, ray_environment
from tests.chaos.certain_model import make_certain_model
from tests.chaos.hosts import Hosts, hosts
from tests.service.running import (
    COMMANDS,
    RAY_TOKEN,
    ROOT,
    Service,
    descendants,
    end,
    serve_config,
    tail,
    wait_until_ready,
)

MODEL = "certain"
NUM_REPLICAS = NUM_INGRESS = NUM_RANKS = 2
_NODE_CPUS = 1  # room for one replica of two ranks, and the ingresses
_OBJECT_STORE_BYTES = 128 * 2**20
_STARTS_WITHIN_S = 90
_WHEREVER_THE_DASHBOARD_IS = re.compile("()")


@dataclass(slots=True)
class Cluster:
    """A running service on two hosts. second: the `ray start` of the second host, which a run may kill and replace."""

    service: Service
    hosts: Hosts
    head: subprocess.Popen[bytes]
    second: subprocess.Popen[bytes]
    environment: dict[str, str]
    folder: Path
    gcs: str
    _num_replaced: int = 0

    def everything(self) -> list[psutil.Process]:
        """All processes of both hosts and of the command that serves."""
        return [one for root in (self.service.process, self.head, self.second) for one in descendants(root.pid)]

    def titled(self, title: str) -> list[psutil.Process]:
        """Those of whose title, or the path of whose program, this is a part. Ray adds the method that runs."""
        return [process for process in self.everything() if title in _title(process)]

    def going(self, title: str) -> list[psutil.Process]:
        """Those of them that nobody has stopped."""
        stopped = self.stopped()
        return [process for process in self.titled(title) if process.pid not in stopped]

    def stopped(self) -> list[int]:
        """The ids of all processes that have been stopped, and not ended yet."""
        return [process.pid for process in self.everything() if _status(process) == psutil.STATUS_STOPPED]

    def replace_second(self) -> None:
        """The second host comes back, empty."""
        self._num_replaced += 1
        log = self.folder / f"second-{self._num_replaced}.log"
        self.second = _join(self.hosts, self.gcs, self.environment, log)


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Until both replicas are up, and then until all of it is gone."""
    with tempfile.TemporaryDirectory(prefix="fs-chaos-", dir="/tmp") as name, hosts() as two:
        folder = Path(name)
        environment = _environment(folder)
        port, dashboard_port = free_port(), free_port()
        gcs = f"{two.first_address}:{port}"
        started: dict[str, subprocess.Popen[bytes]] = {}
        try:
            started["head"] = head = _start(_head_command(two, port, dashboard_port), environment, folder / "head.log")
            _wait_for_ray(head, folder / "head.log")
            started["second"] = second = _join(two, gcs, environment, folder / "second.log")
            config = _config(folder)
            started["service"] = serving = _serve(config, gcs, environment, folder)
            service = _ready(config, serving, folder / "service.log", dashboard_port)
            cluster = Cluster(service, two, head, second, environment, folder, gcs)
            try:
                yield cluster
            finally:
                started["second"] = cluster.second
        finally:
            for name in reversed(started):
                end(started[name]) if name == "service" else _pull_the_plug(started[name])


def _environment(folder: Path) -> dict[str, str]:
    """As the launcher makes it."""
    given = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    given["PATH"] = f"{COMMANDS}{os.pathsep}{given['PATH']}"
    given["PYTHONPATH"] = str(ROOT)
    binary = find_haproxy()
    haproxy = None
    if binary is not None:
        haproxy = HAProxy(write_wrapper(binary, folder), 4_000, free_port(9101), free_port(8404))
    environment = ray_environment({**given, "OMP_NUM_THREADS": "1"}, folder, haproxy)
    return environment | {
        # Ray notes there which cluster this machine has, and whoever starts another later would join that one.
        "RAY_TMPDIR": str(folder),
        # As docs/operations.md tells whoever has several hosts: their ports let nobody in who has no token.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": RAY_TOKEN,
    }


def _config(folder: Path) -> dict[str, Any]:
    model = {
        "name": MODEL,
        "source": str(make_certain_model(folder / "model")),
        "device": "cpu",
        "dtype": "float32",
        "tensor_parallel_size": NUM_RANKS,
        "num_threads": 1,
        "rank_num_cpus": 0.3,
        "max_num_seqs": 8,
        "kv_cache_tokens": 16_384,
    }
    config = serve_config(model, num_ingress=NUM_INGRESS, num_replicas=NUM_REPLICAS)
    config["proxy_location"] = "HeadOnly"
    config["http_options"]["host"] = "0.0.0.0"  # an ingress listens where the proxy does, and may be on the other host
    return config


def _head_command(two: Hosts, port: int, dashboard_port: int) -> list[str]:
    return [
        *_ray_start(two.first_address),
        "--head",
        f"--port={port}",
        f"--ray-client-server-port={free_port()}",
        f"--dashboard-host={LOOPBACK}",
        f"--dashboard-port={dashboard_port}",
    ]


def _join(two: Hosts, gcs: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    second = _start([*two.prefix, *_ray_start(two.second_address), f"--address={gcs}"], environment, log)
    _wait_for_ray(second, log)
    return second


def _ray_start(address: str) -> list[str]:
    return [
        str(COMMANDS / "ray"),
        "start",
        "--block",
        "--disable-usage-stats",
        f"--node-ip-address={address}",
        f"--num-cpus={_NODE_CPUS}",
        f"--object-store-memory={_OBJECT_STORE_BYTES}",
    ]


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _pull_the_plug(ray: subprocess.Popen[bytes]) -> None:
    """A host of Ray's ends at once, with all that runs there."""
    family = descendants(ray.pid)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    ray.wait(_STARTS_WITHIN_S)
    psutil.wait_procs(family, timeout=_STARTS_WITHIN_S)


def _wait_for_ray(process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `ray start` says that its part of the cluster runs.

    Raises:
        AssertionError: it ended, or did not say so in time; with the end of its log.
    """
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        if "Ray runtime started" in log.read_text(errors="replace"):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    raise AssertionError(f"ray start has not started anything:\n{tail(log)}")


def _serve(config: dict[str, Any], gcs: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [str(COMMANDS / "serve"), "run", f"--address={gcs}", str(path)]
    return _start(command, environment, folder / "service.log")


def _ready(config: dict[str, Any], process: subprocess.Popen[bytes], log: Path, dashboard_port: int) -> Service:
    base_url = f"http://{LOOPBACK}:{config['http_options']['port']}"
    wait_until_ready(process, log, base_url, _WHEREVER_THE_DASHBOARD_IS)
    return Service(config, base_url, f"http://{LOOPBACK}:{dashboard_port}", process, log)


def _status(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        status: str = process.status()
        return status
    return ""


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        command = process.cmdline()
        return command[0] if command else ""
    return ""
