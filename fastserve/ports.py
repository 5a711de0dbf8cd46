"""Owns asking the machine which TCP ports are taken, and claiming some. Knows nothing of what listens there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
_CONNECT_TIMEOUT_S = 1.0
# Ray's own first, then downwards: above lie the ports that systems pick by themselves, below 20,000 Ray's workers.
_RANGE_STARTS = range(30_000, 20_000, -1_000)
_RANGE_SIZE = 999


@dataclass(frozen=True, slots=True)
class PortRange:
    """`first` and `last` belong to it."""

    first: int
    last: int


def is_taken(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody answers there now."""
    with socket.socket() as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        return probe.connect_ex((host, port)) == 0


@contextlib.contextmanager
def claimed_range(starts: Iterable[int] = _RANGE_STARTS) -> Iterator[PortRange | None]:
    """Ports that nobody else who asks here is given until the end of the context. None when all are claimed.

    The claim is a socket that listens right above the range, so that it ends with this process, however that ends. A
    range whose first port is in use belongs to somebody who did not ask.
    """
    guard = next((guard for first in starts if (guard := _guard(first)) is not None), None)
    if guard is None:
        yield None
        return
    with guard:
        port = guard.getsockname()[1]
        yield PortRange(port - _RANGE_SIZE, port - 1)


def _guard(first: int) -> socket.socket | None:
    with contextlib.ExitStack() as opened:
        try:
            guard = opened.enter_context(socket.create_server((LOOPBACK, first + _RANGE_SIZE)))
            socket.create_server((LOOPBACK, first)).close()
        except OSError:
            return None
        opened.pop_all()
        return guard


def free_port(preferred: int | None = None) -> int:
    """`preferred` where nobody has it, otherwise one that the system picks."""
    if preferred is not None and not is_taken(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
