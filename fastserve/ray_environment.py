"""Owns the environment that Ray has to find when it starts: data plane, health checks, idle work. Starts nothing.

Everything here makes the service faster or safer; nothing is needed for right answers, so that a plain `serve run` in
any environment works as well. What the operator has set is never overwritten.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.ending import FOLDER_VARIABLE
from fastserve.ports import PortRange

_MIN_REPLICA_PORT = "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"
_MAX_REPLICA_PORT = "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"

# What Ray does all the time, asked or not, takes 25 % of a core by default and 18 % with these, and where there are two
# cores that comes out of the engine's steps.
_SELDOM = {
    "RAY_event_stats": "0",  # counts of its own event loops' turns, for its developers: each worker has 100 a second
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",  # Serve's controller; a start, an end or a new replica waits for it
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",  # Serve's own counts go to Ray's, which are read every 10 s
    "RAY_task_events_report_interval_ms": "5000",  # the dashboard's list of tasks
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",  # look for new log files, as follows,
    "LOG_NAME_UPDATE_INTERVAL_S": "2",  # every two seconds instead of ten times a second; lines show as soon as ever
}


@dataclass(frozen=True, slots=True)
class HAProxy:
    """What is run as HAProxy, the ports of its own metrics and statistics, and those of the ingresses behind it.

    max_connections: above what admission lets wait and run, so that HAProxy's own first-come-first-served queue never
    forms in front of ours. replica_ports: None leaves them to Ray, which gives all clusters of a machine the same ones.
    """

    binary: Path
    max_connections: int
    metrics_port: int = 9101
    stats_port: int = 8404
    replica_ports: PortRange | None = None


def ray_environment(given: Mapping[str, str], run_folder: Path, haproxy: HAProxy | None) -> dict[str, str]:
    """`given`, with what it lacks.

    run_folder: private to this start, and gone after it. HAProxy's sockets go there, because its default place is
    shared by all users, and temporary files, because what is ended by force, Ray's dashboard always, leaves its own.
    haproxy: None leaves Ray's plain proxy in charge.
    """
    added = {
        **_SELDOM,
        "TMPDIR": str(run_folder),
        FOLDER_VARIABLE: str(run_folder / "ending"),
        "RAY_TMPDIR": given.get("TMPDIR", "/tmp"),  # Ray's sessions and their logs stay where its tools look for them
        "RAY_AUTH_MODE": "disabled",  # a token file that happens to lie in the home folder would switch it on
        "RAY_USAGE_STATS_ENABLED": "0",
        # Each request is a task, and each of the last so many tasks (Ray: 100,000) takes 2 kB of its control service.
        "RAY_task_events_max_num_task_in_gcs": "10000",
        "RAY_worker_niceness": "0",  # Ray's 15 lets every other process of the machine go before the ranks' steps
        "RAY_SERVE_DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": "1",  # how soon a dead queue actor is replaced
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",  # HAProxy forgets a replica within a second
    }
    if haproxy is not None:
        added |= _haproxy_environment(run_folder, haproxy)
        added |= _replica_ports(given, haproxy.replica_ports)
    environment = {**added, **given}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given.get('PATH', os.defpath)}"
    return environment


def _replica_ports(given: Mapping[str, str], ports: PortRange | None) -> dict[str, str]:
    """Both ends of the range, or neither: one end of ours and one of the operator's may leave nothing between."""
    if ports is None or not given.keys().isdisjoint((_MIN_REPLICA_PORT, _MAX_REPLICA_PORT)):
        return {}
    return {_MIN_REPLICA_PORT: str(ports.first), _MAX_REPLICA_PORT: str(ports.last)}


def _haproxy_environment(run_folder: Path, haproxy: HAProxy) -> dict[str, str]:
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy.binary),
        # A proxy that fails three checks in a row is replaced; meanwhile nobody can connect.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "5",
        "RAY_SERVE_HAPROXY_MAXCONN": str(haproxy.max_connections),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(haproxy.metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(haproxy.stats_port),
        # Idle seconds, not total ones: a client that sends no byte of its body, an ingress that sends none for an hour.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "300",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "3600",
        # Each change of the ingresses starts another HAProxy; the one before it has so long for its last answers.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "600",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run_folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run_folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(run_folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run_folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run_folder / "server-state"),
    }
