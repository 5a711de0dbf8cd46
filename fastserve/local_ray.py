"""Starts a Ray of its own with its dashboard on loopback, and hands over to Ray Serve's own `serve run`.

`python -m fastserve.local_ray CONFIG DASHBOARD_PORT` stays in the foreground. Knows nothing of what the file says.
"""

from __future__ import annotations

import os
import sys

import ray
from ray.serve.scripts import cli as serve_cli

LOOPBACK = "127.0.0.1"
_OBJECT_STORE_BYTES = 256 * 2**20  # no weights and no prompts pass through it; Ray would take 30 % of the memory


def main(config: str, dashboard_port: str) -> None:
    # All that Ray starts inherits this, and the ranks undo it for themselves: a process that streams then interrupts
    # no step, and takes its turn a moment later (docs/decisions/0005).
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # `serve run` uses a Ray that is already there. Its processes speak over loopback; Ray's gRPC servers listen on all
    # interfaces all the same (docs/operations.md).
    ray.init(
        address="local",
        namespace="serve",
        include_dashboard=True,
        dashboard_host=LOOPBACK,
        dashboard_port=int(dashboard_port),
        object_store_memory=_OBJECT_STORE_BYTES,
        _node_ip_address=LOOPBACK,
    )
    serve_cli(["run", config])


if __name__ == "__main__":
    main(*sys.argv[1:])
