"""Owns asking the machine which TCP ports are taken. Knows nothing of what listens there."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"
_CONNECT_TIMEOUT_S = 1.0


def is_taken(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody answers there now."""
    with socket.socket() as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        return probe.connect_ex((host, port)) == 0


def free_port(preferred: int | None = None) -> int:
    """`preferred` where nobody has it, otherwise one that the system picks."""
    if preferred is not None and not is_taken(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
